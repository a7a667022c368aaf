// SPDX-License-Identifier: Apache-2.0

// hubgo: what programs on go-huggingface do; it reads HF_ENDPOINT.
//
//	hubgo '{"repo": "acme/pub", "revision": "main", "token": "", "files": ["config.json"]}'
//
// The last line of its output is JSON: {"commit", "names", "paths"}, or {"error"}.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/gomlx/go-huggingface/hub"
)

type wanted struct {
	Repo, Revision, Token string
	Files                 []string
}

type told struct {
	Commit string   `json:"commit,omitempty"`
	Names  []string `json:"names,omitempty"`
	Paths  []string `json:"paths,omitempty"`
	Error  string   `json:"error,omitempty"`
}

func read(w wanted) (told, error) {
	repo := hub.New(w.Repo).WithProgressBar(false).WithRevision(w.Revision)
	if w.Token != "" {
		repo = repo.WithAuth(w.Token)
	}
	var out told
	if err := repo.DownloadInfo(false); err != nil {
		return out, err
	}
	out.Commit = repo.Info().CommitHash
	for name, err := range repo.IterFileNames() {
		if err != nil {
			return out, err
		}
		out.Names = append(out.Names, name)
	}
	var err error
	out.Paths, err = repo.DownloadFiles(w.Files...)
	return out, err
}

func main() {
	var w wanted
	if err := json.Unmarshal([]byte(os.Args[1]), &w); err != nil {
		panic(err)
	}
	out, err := read(w)
	if err != nil {
		out = told{Error: err.Error()}
	}
	line, _ := json.Marshal(out)
	fmt.Println(string(line))
}
