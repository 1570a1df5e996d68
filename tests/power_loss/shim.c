/*
 * Between a node and libc, by LD_PRELOAD: notes in a journal, in their order, everything that changes the node's
 * database files, and every sync of them. What a power loss would leave is worked out from the journal (disk.rs).
 *
 * A sync is noted and not carried out: the disk of this test is the journal. The shared memory of the log (-shm) is
 * left out, since no power loss keeps it. A record is written before its change is made and in one piece, so those
 * of several processes keep the order that SQLite's locks give them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { CREATE, WRITE, TRUNCATE, SYNC, UNLINK };
enum file { DATABASE, LOG, ROLLBACK, FOLDER, OTHER };

struct record {
    uint64_t kind, file, at, length;
};

static const char *const names[] = { "/vellum.db", "/vellum.db-wal", "/vellum.db-journal", "" };

/* By descriptor: which file it is, plus one; zero for every other. */
static unsigned char opened[65536];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *folder;
static int journal = -1;

#define REAL(name)                                                                                                   \
    static __typeof__(&name) real;                                                                                   \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static void fail(const char *what) {
    perror(what);
    abort();
}

static void start(void) {
    static int started;
    if (started) return;
    started = 1;
    folder = getenv("POWER_LOSS_FOLDER");
    const char *path = getenv("POWER_LOSS_JOURNAL");
    if (!folder || !path) return;
    /* Not open(), which is our own and waits for the lock that is held here. */
    journal = openat(AT_FDCWD, path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (journal < 0) fail("the journal cannot be opened");
}

static enum file file_at(const char *path) {
    char expected[PATH_MAX];
    for (int file = DATABASE; folder && file < OTHER; file++) {
        snprintf(expected, sizeof expected, "%s%s", folder, names[file]);
        if (!strcmp(path, expected)) return (enum file)file;
    }
    return OTHER;
}

static enum file file_of(int fd) {
    if (fd < 0 || (size_t)fd >= sizeof opened || !opened[fd]) return OTHER;
    return (enum file)(opened[fd] - 1);
}

static void note(enum kind kind, enum file file, uint64_t at, const void *data, uint64_t length) {
    struct record record = { kind, file, at, length };
    struct iovec parts[] = { { &record, sizeof record }, { (void *)data, data ? length : 0 } };
    size_t size = parts[0].iov_len + parts[1].iov_len;
    if (writev(journal, parts, 2) != (ssize_t)size) fail("the journal cannot be written");
}

static int note_open(const char *path, int flags, mode_t mode, int (*real)(const char *, int, ...)) {
    pthread_mutex_lock(&lock);
    start();
    enum file file = file_at(path);
    int is_new = file < FOLDER && (flags & O_CREAT) && access(path, F_OK) != 0;
    int fd = real(path, flags, mode);
    if (fd >= 0 && (size_t)fd < sizeof opened) opened[fd] = file == OTHER ? 0 : file + 1;
    if (fd >= 0 && is_new) note(CREATE, file, 0, NULL, 0);
    if (fd >= 0 && file < FOLDER && (flags & O_TRUNC)) note(TRUNCATE, file, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return fd;
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
}

int open(const char *path, int flags, ...) {
    REAL(open);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return note_open(path, flags, mode, real);
}

int open64(const char *path, int flags, ...) {
    REAL(open64);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return note_open(path, flags, mode, real);
}

int close(int fd) {
    REAL(close);
    pthread_mutex_lock(&lock);
    if (fd >= 0 && (size_t)fd < sizeof opened) opened[fd] = 0;
    int result = real(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

static ssize_t note_write(int fd, const void *data, size_t length, off_t at,
                          ssize_t (*real)(int, const void *, size_t, off_t)) {
    if (file_of(fd) == OTHER) return real(fd, data, length, at);
    pthread_mutex_lock(&lock);
    note(WRITE, file_of(fd), (uint64_t)at, data, length);
    ssize_t written = real(fd, data, length, at);
    if (written != (ssize_t)length) fail("a write was cut short, which the journal does not know");
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    REAL(pwrite);
    return note_write(fd, data, length, at, real);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) {
    REAL(pwrite64);
    return note_write(fd, data, length, at, real);
}

ssize_t write(int fd, const void *data, size_t length) {
    REAL(write);
    if (file_of(fd) == OTHER) return real(fd, data, length);
    pthread_mutex_lock(&lock);
    note(WRITE, file_of(fd), (uint64_t)lseek(fd, 0, SEEK_CUR), data, length);
    ssize_t written = real(fd, data, length);
    if (written != (ssize_t)length) fail("a write was cut short, which the journal does not know");
    pthread_mutex_unlock(&lock);
    return written;
}

static int note_truncate(int fd, off_t length, int (*real)(int, off_t)) {
    if (file_of(fd) == OTHER) return real(fd, length);
    pthread_mutex_lock(&lock);
    note(TRUNCATE, file_of(fd), (uint64_t)length, NULL, 0);
    int result = real(fd, length);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int fd, off_t length) {
    REAL(ftruncate);
    return note_truncate(fd, length, real);
}

int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    return note_truncate(fd, length, real);
}

static int note_sync(int fd, int (*real)(int)) {
    if (file_of(fd) == OTHER) return real(fd);
    pthread_mutex_lock(&lock);
    note(SYNC, file_of(fd), 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return 0;
}

int fsync(int fd) {
    REAL(fsync);
    return note_sync(fd, real);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return note_sync(fd, real);
}

int unlink(const char *path) {
    REAL(unlink);
    pthread_mutex_lock(&lock);
    start();
    enum file file = file_at(path);
    if (file < FOLDER && access(path, F_OK) == 0) note(UNLINK, file, 0, NULL, 0);
    int result = real(path);
    pthread_mutex_unlock(&lock);
    return result;
}
