#include "cli/key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/secret.h"
#include "base/terminal.h"
#include "cli/openssl_memory.h"
#include "cli/report.h"
#include "wire/reference.h"

/* An RSA-4096 key is 3.3 KB of PEM; this leaves room for a certificate chain beside it. */
#define KEY_FILE_SIZE_MAX 65536

/* --- Reading --------------------------------------------------------------------------------- */

static enum exit_status open_regular(const char *path, struct key_file *file, int *fd)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0 || fstat(*fd, &file->status) != 0)
        return report_failure("cannot read %s: %s", path, strerror(errno));
    if (!S_ISREG(file->status.st_mode))
        return report_failure("%s is not a regular file", path);
    if (file->status.st_size > KEY_FILE_SIZE_MAX)
        return report_failure("%s is over %d bytes, which is no private key in PEM", path,
                              KEY_FILE_SIZE_MAX);
    return STATUS_OK;
}

struct pass_phrase {
    const char *path;
    struct problem problem; /* why it could not be asked for, or empty */
};

static int ask_pass_phrase(char *text, int size, int for_writing, void *context)
{
    (void)for_writing;
    struct pass_phrase *pass_phrase = context;
    char question[256];
    snprintf(question, sizeof(question), "Pass phrase of %s: ", pass_phrase->path);
    return terminal_ask_secret(question, text, (size_t)size, &pass_phrase->problem);
}

static bool holds(const char *pem, size_t size, const char *line_part)
{
    return memmem(pem, size, line_part, strlen(line_part)) != NULL;
}

/* No private key was found: what the file is instead, where that shows. */
static enum exit_status report_what_it_is(const struct key_file *file, const char *pem, size_t size)
{
    bool has_key = holds(pem, size, "PRIVATE KEY-----");
    if (!has_key && holds(pem, size, "-----BEGIN " KEY_REFERENCE_PEM_LABEL "-----"))
        return report_failure("%s is a key reference: its key is in a token already", file->path);
    if (!has_key && file->has_certificate)
        return report_failure("%s is a certificate, which holds no private key: name the file that "
                              "has its key",
                              file->path);
    char what[512];
    snprintf(what, sizeof(what), "cannot read a private key in PEM from %s", file->path);
    return report_openssl(what);
}

static enum exit_status parse(struct key_file *file, const char *pem, size_t size)
{
    struct pass_phrase pass_phrase = {.path = file->path};
    BIO *memory = BIO_new_mem_buf(pem, (int)size);
    if (memory != NULL)
        file->pkey = PEM_read_bio_PrivateKey(memory, NULL, ask_pass_phrase, &pass_phrase);
    BIO_free(memory);
    file->has_certificate = holds(pem, size, "-----BEGIN CERTIFICATE-----");
    if (file->pkey != NULL) {
        ERR_clear_error();
        return STATUS_OK;
    }
    if (pass_phrase.problem.text[0] == '\0')
        return report_what_it_is(file, pem, size);
    ERR_clear_error();
    return report_failure("%s is encrypted, and %s; run this on a terminal", file->path,
                          pass_phrase.problem.text);
}

static enum exit_status read_and_parse(struct key_file *file, int fd)
{
    char *pem = secret_alloc(KEY_FILE_SIZE_MAX);
    size_t size = 0;
    ssize_t got = 1;
    if (pem == NULL)
        return report_failure("no locked memory for the key; raise RLIMIT_MEMLOCK (ulimit -l)");
    while (size < KEY_FILE_SIZE_MAX && got > 0) {
        got = read(fd, pem + size, KEY_FILE_SIZE_MAX - size);
        size += got > 0 ? (size_t)got : 0;
    }
    enum exit_status status =
        got < 0 ? report_failure("cannot read %s: %s", file->path, strerror(errno))
                : parse(file, pem, size);
    secret_free(pem, KEY_FILE_SIZE_MAX);
    openssl_memory_wipe_stack();
    return status;
}

enum exit_status key_file_read(const char *path, struct key_file *file)
{
    *file = (struct key_file){.path = path};
    int fd = -1;
    enum exit_status status = open_regular(path, file, &fd);
    if (status == STATUS_OK)
        status = read_and_parse(file, fd);
    if (fd >= 0)
        close(fd);
    return status;
}

/* --- Shredding ------------------------------------------------------------------------------- */

static bool overwrite(int fd, off_t size)
{
    for (off_t at = 0; at < size;) {
        uint8_t block[4096];
        size_t want = size - at < (off_t)sizeof(block) ? (size_t)(size - at) : sizeof(block);
        if (RAND_bytes(block, (int)want) != 1)
            return false;
        ssize_t written = pwrite(fd, block, want, at);
        if (written <= 0)
            return false;
        at += written;
    }
    return fsync(fd) == 0;
}

static void sync_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash != NULL ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    int fd = folder != NULL ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd); /* at worst the name comes back after a crash, with random bytes */
        close(fd);
    }
    free(folder);
}

static enum exit_status shred_real(const struct key_file *file, const char *path, int fd)
{
    struct stat now;
    if (fd < 0 || fstat(fd, &now) != 0)
        return report_failure("cannot open %s to shred it: %s", path, strerror(errno));
    if (now.st_dev != file->status.st_dev || now.st_ino != file->status.st_ino)
        return report_failure("%s is another file now than the one that was read; it is left as it "
                              "is",
                              path);
    if (!overwrite(fd, now.st_size))
        return report_failure("cannot overwrite %s: %s", path, strerror(errno));
    if (unlink(path) != 0)
        return report_failure("%s is overwritten, but cannot be removed: %s", path,
                              strerror(errno));
    sync_folder_of(path);
    if (now.st_nlink > 1)
        report_warning("%s had other names (hard links); they now hold random bytes", path);
    report_note("%s is overwritten and removed; copies may be left in backups, and in the blocks "
                "of journalling or copy-on-write file systems, snapshots and SSDs",
                path);
    return STATUS_OK;
}

enum exit_status key_file_shred(const struct key_file *file)
{
    char *path = realpath(file->path, NULL);
    if (path == NULL)
        return report_failure("cannot find %s to shred it: %s", file->path, strerror(errno));
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    enum exit_status status = shred_real(file, path, fd);
    if (fd >= 0)
        close(fd);
    free(path);
    return status;
}
