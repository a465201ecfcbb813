/*-------------------------------------------------------------------------
 *
 * text.c
 *	  Text that grows, text that is shared, and the smallest tools.
 *
 * Running out of memory ends the program.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

/* Return the pointer; if it is NULL, memory is exhausted and the program ends. */
void *
need(void *p)
{
	if (p == NULL)
	{
		fputs("lpsim: out of memory\n", stderr);
		_exit(1);
	}
	return p;
}

/* Return a copy, the caller's to free; NULL of NULL. */
char *
copy_text(const char *s)
{
	return s ? need(strdup(s)) : NULL;
}

/* Make room for so many bytes more, and a NUL byte. */
void
buf_room(Buf *b, size_t more)
{
	if (b->len + more + 1 <= b->size)
		return;
	b->size = (b->len + more + 1) * 2;
	b->data = need(realloc(b->data, b->size));
}

/* Append bytes. */
void
buf_put(Buf *b, const void *data, size_t len)
{
	buf_room(b, len);
	if (len > 0)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

/* Append a text. */
void
buf_puts(Buf *b, const char *s)
{
	buf_put(b, s, strlen(s));
}

/* Append a text as printf() makes it. */
void
buf_printf(Buf *b, const char *fmt,...)
{
	va_list		args;
	int			len;

	/* mostly a number: the first try succeeds */
	buf_room(b, 64);
	va_start(args, fmt);
	len = vsnprintf(b->data + b->len, b->size - b->len, fmt, args);
	va_end(args);
	if (len >= (int) (b->size - b->len))
	{
		buf_room(b, len);
		va_start(args, fmt);
		vsnprintf(b->data + b->len, b->size - b->len, fmt, args);
		va_end(args);
	}
	b->len += len;
}

/* Takes what the buffer holds and leaves it empty. */
Body *
body_from(Buf *b)
{
	Body	   *body = need(malloc(sizeof(Body)));

	buf_room(b, 0);
	b->data[b->len] = '\0';
	body->refs = 1;
	body->len = b->len;
	body->data = b->data;
	memset(b, 0, sizeof(*b));
	return body;
}

Body *
body_from_text(const char *text)
{
	Buf			b = {0};

	buf_puts(&b, text);
	return body_from(&b);
}

Body *
body_share(Body *body)
{
	__atomic_add_fetch(&body->refs, 1, __ATOMIC_ACQ_REL);
	return body;
}

/* Give up one reference to a body (a Body *, or NULL). */
void
body_release(void *p)
{
	Body	   *body = p;

	if (body == NULL || __atomic_sub_fetch(&body->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	free(body->data);
	free(body);
}

/* Return true if this word is one of a list, which is separated by commas, blanks or bars. */
bool
list_has(const char *list, const char *word, size_t len)
{
	while (list && *list)
	{
		size_t		n = strcspn(list, ", |");

		if (n == len && n > 0 && strncmp(list, word, n) == 0)
			return true;
		list += n + strspn(list + n, ", |");
	}
	return false;
}

/* Set *n to the whole number that the text is.  Return false if it is none. */
bool
parse_int64(const char *s, int64_t *n)
{
	char	   *end;

	if (s == NULL || *s == '\0' || isspace((unsigned char) *s))
		return false;
	errno = 0;
	*n = strtoll(s, &end, 10);
	return errno == 0 && *end == '\0';
}

/* Return the value of a hex digit, or -1. */
int
hex_value(char c)
{
	const char *digits = "0123456789abcdef";
	const char *p = c ? strchr(digits, tolower((unsigned char) c)) : NULL;

	return p ? (int) (p - digits) : -1;
}

/* Bytes from outside of JSON come as hex digits; what is none ends them. */
void
put_hex(Buf *b, const char *hex)
{
	for (; hex_value(hex[0]) >= 0 && hex_value(hex[1]) >= 0; hex += 2)
	{
		char		c = hex_value(hex[0]) * 16 + hex_value(hex[1]);

		buf_put(b, &c, 1);
	}
}

/* Read the character at *s, which is valid UTF-8, and move *s behind it. */
uint32_t
utf8_read(const char **s)
{
	const unsigned char *p = (const unsigned char *) *s;
	int			more = p[0] < 0x80 ? 0 : p[0] < 0xE0 ? 1 : p[0] < 0xF0 ? 2 : 3;
	uint32_t	c = more == 0 ? p[0] : p[0] & (0x3F >> more);

	for (int i = 1; i <= more && (p[i] & 0xC0) == 0x80; i++)
		c = c << 6 | (p[i] & 0x3F);
	for (*s += 1; ((unsigned char) **s & 0xC0) == 0x80; *s += 1)
		continue;
	return c;
}

/* Append a character. */
void
utf8_put(Buf *b, uint32_t c)
{
	char		out[4];
	size_t		n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	for (size_t i = n - 1; i > 0; i--, c >>= 6)
		out[i] = 0x80 | (c & 0x3F);
	out[0] = n == 1 ? c : (0xF00 >> n & 0xFF) | c;
	buf_put(b, out, n);
}
