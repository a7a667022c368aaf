// SPDX-License-Identifier: Apache-2.0
module hfcached/tests/clients/go

go 1.24.0

require github.com/gomlx/go-huggingface v0.3.1
