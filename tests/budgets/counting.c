/* Counts what is copied and allocated in large pieces, for test_budgets.py: cc -shared -fPIC -O2 -fno-builtin
   -fno-tree-loop-distribute-patterns counting.c. The counts lie in the file that COUNTING names, mapped by both sides. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define LARGE 1024            /* rows of pictures are copied one by one, small values by the thousand */
#define LARGE_BLOCK (64 << 10) /* what malloc takes from the kernel, or may */

static struct { uint64_t bytes_copied, large_blocks; } none, *counts = &none;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("COUNTING");
    int file = name ? open(name, O_RDWR) : -1;
    if (file >= 0) {
        void *mapped = mmap(NULL, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED) counts = mapped;
        close(file);
    }
}

void *memmove(void *into, const void *from, size_t size) {
    if (size >= LARGE) __atomic_fetch_add(&counts->bytes_copied, size, __ATOMIC_RELAXED);
    unsigned char *to = into;
    const unsigned char *source = from;
    if (to <= source || to >= source + size) {
#if defined(__x86_64__)
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(source), "+c"(size) : : "memory");
#else
        while (size--) *to++ = *source++;
#endif
    } else {
        while (size--) to[size] = source[size];
    }
    return into;
}

void *memcpy(void *restrict into, const void *restrict from, size_t size) { return memmove(into, from, size); }

void *malloc(size_t size) {
    static void *(*real)(size_t);
    if (!real) real = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    if (size >= LARGE_BLOCK) __atomic_fetch_add(&counts->large_blocks, 1, __ATOMIC_RELAXED);
    return real(size);
}
