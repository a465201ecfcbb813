/*
 * text.h
 *	  Text that grows, text that is shared, and the smallest tools.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_TEXT_H
#define LPSIM_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define lengthof(a)		(sizeof(a) / sizeof((a)[0]))
#define printf_like(f, v)	__attribute__((format(printf, f, v)))

/* Text that grows; always followed by a NUL byte once something was put. */
typedef struct Buf
{
	char	   *data;
	size_t		len;
	size_t		size;
} Buf;

/* Text that is finished and may be sent by several threads at once. */
typedef struct Body
{
	int			refs;
	size_t		len;
	char	   *data;
} Body;

extern void *need(void *p);
extern char *copy_text(const char *s);
extern void buf_room(Buf *b, size_t more);
extern void buf_put(Buf *b, const void *data, size_t len);
extern void buf_puts(Buf *b, const char *s);
extern void buf_printf(Buf *b, const char *fmt,...) printf_like(2, 3);
extern Body *body_from(Buf *b);
extern Body *body_from_text(const char *text);
extern Body *body_share(Body *body);
extern void body_release(void *p);
extern bool list_has(const char *list, const char *word, size_t len);
extern bool parse_int64(const char *s, int64_t *n);
extern int hex_value(char c);
extern void put_hex(Buf *b, const char *hex);
extern uint32_t utf8_read(const char **s);
extern void utf8_put(Buf *b, uint32_t c);

#endif
