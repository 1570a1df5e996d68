/*
 * Between a node and libc, by LD_PRELOAD: while the file FAULT_FILE holds a number, every write to a file beneath
 * FAULT_FOLDER fails with it as errno, as on a disk that is full, read-only or broken.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REAL(name)                                                                                                   \
    static __typeof__(&name) real;                                                                                   \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* The fault of now for a file; 0 for none. */
static int fault(int fd) {
    const char *file = getenv("FAULT_FILE"), *folder = getenv("FAULT_FOLDER");
    if (!file || !folder) return 0;
    char link[64], path[PATH_MAX], number[16] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder))) return 0;
    int from = openat(AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
    if (from < 0) return 0;
    ssize_t got = read(from, number, sizeof number - 1);
    close(from);
    return got > 0 ? atoi(number) : 0;
}

#define GUARD(fd)                                                                                                    \
    int error = fault(fd);                                                                                           \
    if (error) {                                                                                                     \
        errno = error;                                                                                               \
        return -1;                                                                                                   \
    }

ssize_t write(int fd, const void *data, size_t length) {
    REAL(write);
    GUARD(fd)
    return real(fd, data, length);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    REAL(pwrite);
    GUARD(fd)
    return real(fd, data, length, at);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) {
    REAL(pwrite64);
    GUARD(fd)
    return real(fd, data, length, at);
}

int ftruncate(int fd, off_t length) {
    REAL(ftruncate);
    GUARD(fd)
    return real(fd, length);
}

int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    GUARD(fd)
    return real(fd, length);
}
