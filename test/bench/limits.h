/*
 * limits.h: what the programs share that show how fast a job can be done.
 */
#ifndef LIMITS_H
#define LIMITS_H

#include <curl/curl.h>
#include <stddef.h>

extern double now_us(void);

/* What this process's processors have worked so far. */
extern double worked_us(void);

/* A callback of libcurl that drops what comes. */
extern size_t limit_drop(char *data, size_t size, size_t count, void *arg);

/* The headers that lpusers sends too. */
extern struct curl_slist *limit_headers(void);

/* Room for the body of so many users. */
extern size_t limit_room(int users);

/* Write users first, first + 1, ... as the body of a request that creates them; like those of bench.sql. Its length. */
extern size_t limit_write_users(char *body, size_t room, const char *prefix, int first, int users);

#endif
