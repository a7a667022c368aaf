/* SPDX-License-Identifier: Apache-2.0 */
/*
 * banned - calls that nobody here may use: unbounded copies, hidden shared buffers, silent number parsing,
 * shells.
 *
 * Include it last: a system header that comes later may mention these names itself.
 * Instead: buf_appendf, snprintf, memcpy with a known length; gmtime_r, http_date_format; parse_u64,
 * parse_size.
 */
#pragma once

/* Some of them are macros of the C library. */
#undef alloca
#undef strcpy
#undef stpcpy
#undef strcat
#undef strncpy
#undef strncat
#undef sprintf
#undef vsprintf

/* Copies that do not know how much room there is, or that leave out the NUL without a word. */
#pragma GCC poison strcpy stpcpy strcat strncpy strncat sprintf vsprintf gets
/* One hidden buffer for all threads. */
#pragma GCC poison strtok gmtime localtime asctime ctime strerror getpwnam getpwuid gethostbyname readdir_r
/* No overflow, no error. */
#pragma GCC poison atoi atol atoll atof sscanf
/* A shell, or a name that somebody else may take first. */
#pragma GCC poison system popen tmpnam tempnam mktemp
/* Stack or randomness without a bound. */
#pragma GCC poison alloca rand srand
