/* A model of two levels of data cache with LRU replacement and write-allocate.
 *
 * Pseudo-random replacement, prefetching and address translation of real cores are not modeled. */
#ifndef EMULATOR_CACHE_H
#define EMULATOR_CACHE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cache {
    uint64_t sets, ways, line; /* line: bytes */
    uint64_t *lines;           /* sets x ways, most recently used first; a line's address / line size + 1, or 0 */
};

/* Creates an empty cache from "BYTES:WAYS:LINE"; returns false if the text is invalid. */
static bool cache_make(struct cache *cache, const char *text)
{
    unsigned long long bytes, ways, line;
    char rest;
    if (sscanf(text, "%llu:%llu:%llu%c", &bytes, &ways, &line, &rest) != 3 || !ways || !line || bytes % (ways * line))
        return false;
    cache->sets = bytes / (ways * line);
    cache->ways = ways;
    cache->line = line;
    cache->lines = cache->sets ? calloc(cache->sets * ways, sizeof *cache->lines) : NULL;
    return cache->lines != NULL;
}

/* Accesses a line; returns whether it missed. */
static inline bool cache_misses(struct cache *cache, uint64_t address)
{
    uint64_t number = address / cache->line, *set = cache->lines + number % cache->sets * cache->ways, way = 0;
    while (way < cache->ways - 1 && set[way] != number + 1)
        way++;
    bool missing = set[way] != number + 1;
    memmove(set + 1, set, way * sizeof *set);
    set[0] = number + 1;
    return missing;
}

/* Accesses all lines of a memory access; adds the misses in each level. */
static inline void cache_access(struct cache *l1, struct cache *l2, uint64_t address, uint64_t bytes,
                                uint64_t *l1_misses, uint64_t *l2_misses)
{
    for (uint64_t at = address / l1->line * l1->line; at < address + bytes; at += l1->line)
        if (cache_misses(l1, at)) {
            ++*l1_misses;
            *l2_misses += cache_misses(l2, at);
        }
}

#endif
