/*
 * array_reader.c: the objects of a JSON array, one after the other, while its bytes arrive.
 *
 * For lists too large to be held as a tree. The reader goes from element to element;
 * object_scanner.c reads one. An element that is complete in the bytes fed is read in place, one
 * that is cut is assembled in a buffer; then the wanted values are decoded and copied. Bytes may
 * be cut anywhere, and the cuts affect neither the values nor the errors.
 *
 * JSON allows U+0000, PostgreSQL's text does not: no value that is returned has it, neither as a
 * byte nor as \u0000. An element with \u0000 in a wanted value, or anywhere if its own text is
 * wanted, is refused. In other attributes it is ignored.
 *
 * Memory belongs to the context of lpu_reader_new(); nothing is raised but out of memory. It
 * knows no users and no HTTP.
 */
#include "postgres.h"

#include "json/array_reader.h"
#include "json/lexer.h"
#include "json/object_scanner.h"

/*
 * A user has about 1 kB. No element of any list comes near this, and the
 * memory for one is no burden.
 */
#define MAX_ELEMENT (1024 * 1024)

/*
 * As many as document.c allows, and counted alike: the document is the first
 * level, and a value, a number too, is one below what it stands in.
 */
#define MAX_LEVELS 32

/*
 * An element that is cut is assembled in steps: small ones copy little behind its end, large
 * ones keep their number low.
 */
#define MIN_STEP 1024
#define MAX_STEP (64 * 1024)

/* A complaint is one of ours, with a number. */
#define COMPLAINT_LENGTH 100

/* Where between the elements it is. */
typedef enum ReaderPosition
{
	BEFORE_DOCUMENT,
	BEFORE_FIRST,				/* element, or the end of the list */
	BEFORE_ELEMENT,
	AFTER_ELEMENT,
	AFTER_DOCUMENT
} ReaderPosition;

/* A brace is the beginning of an element. */
static const struct
{
	ReaderPosition from;
	char		character;
	ReaderPosition to;
}			steps[] = {
	{BEFORE_DOCUMENT, '[', BEFORE_FIRST},
	{BEFORE_DOCUMENT, '{', AFTER_DOCUMENT},
	{BEFORE_FIRST, ']', AFTER_DOCUMENT},
	{BEFORE_FIRST, '{', AFTER_ELEMENT},
	{BEFORE_ELEMENT, '{', AFTER_ELEMENT},
	{AFTER_ELEMENT, ',', BEFORE_ELEMENT},
	{AFTER_ELEMENT, ']', AFTER_DOCUMENT},
};

/* What any other character is. */
static const char *const misplaced[] = {
	[BEFORE_DOCUMENT] = "neither an array nor an object",
	[BEFORE_FIRST] = "an element that is not an object",
	[BEFORE_ELEMENT] = "an element that is not an object",
	[AFTER_ELEMENT] = "neither a comma nor a bracket",
	[AFTER_DOCUMENT] = "more after the end",
};

struct LpuReader
{
	int			n;
	bool		whole;
	int		   *same;			/* of each name: the first one that is equal */

	/* the piece that was fed, and where it is in the document */
	const char *piece;
	const char *p;				/* what of it comes next */
	const char *end;
	uint64		piece_at;
	bool		last;			/* no other one will come */

	ReaderPosition position;
	LpuElement *element;
	bool		inside;			/* it has begun and is not complete */
	bool		cut;			/* it is put together in the buffer */
	uint64		element_at;
	const char *bytes;			/* those of it that are at hand: from the
								 * piece, or the buffer */
	size_t		length;
	char	   *buffer;
	size_t		buffer_room;

	/* what is handed over */
	LpuValue   *values;
	LpuValue	whole_value;
	char	   *texts;
	size_t		texts_room;
	char		complaint[COMPLAINT_LENGTH];
};

/*
 * Return a reader of an array of objects, or of one object as an array of one. names are the
 * attributes wanted of each element, and one may occur twice; whole also asks for the element's
 * text. The reader lives in the current memory context; the names must live as long.
 *
 * The text must be strict JSON in UTF-8, at most 32 levels deep, with elements of at most 1 MB, and
 * \u0000 only in attributes that are not wanted. Half a surrogate pair is read as U+FFFD. Of a name
 * that occurs twice in an object the last one counts.
 */
LpuReader *
lpu_reader_new(const char *const *names, int n, bool whole)
{
	LpuReader  *r = palloc0(sizeof(LpuReader));
	int			i;
	int			j;

	r->n = n;
	r->whole = whole;
	r->same = palloc(Max(n, 1) * sizeof(int));
	for (i = 0; i < n; i++)
	{
		for (j = 0; strcmp(names[j], names[i]) != 0;)
			j++;
		r->same[i] = j;
	}
	r->element = lpu_element_new(names, n);
	r->values = palloc0(Max(n, 1) * sizeof(LpuValue));
	r->buffer_room = r->texts_room = MIN_STEP;
	r->buffer = palloc(r->buffer_room);
	r->texts = palloc(r->texts_room);
	return r;
}

/*
 * Hand over the next bytes, after MORE or END; they must stay valid until the reader returns
 * MORE or END again.
 */
void
lpu_reader_feed(LpuReader *r, const char *data, size_t length)
{
	r->piece_at += r->end - r->piece;
	r->piece = r->p = data;
	r->end = data + length;
}

/* Note that no more bytes will come: an unfinished element is WRONG from now on. */
void
lpu_reader_end(LpuReader *r)
{
	r->last = true;
}

static LpuReaderState
complain_at(LpuReader *r, const char *problem, uint64 offset)
{
	snprintf(r->complaint, sizeof(r->complaint), "%s at byte " UINT64_FORMAT, problem, offset + 1);
	return LPU_READER_WRONG;
}

/* Where in the document p is. */
static uint64
offset_of_p(const LpuReader *r)
{
	return r->piece_at + (r->p - r->piece);
}

/* All that was fed is used up, and the document is not complete. */
static LpuReaderState
want_more(LpuReader *r)
{
	return r->last ? complain_at(r, "an end that comes too early", offset_of_p(r)) : LPU_READER_MORE;
}

/* ----- the way to an element ----- */

/* Its brace is at p. */
static void
begin_element(LpuReader *r)
{
	r->inside = true;
	r->cut = false;
	r->element_at = offset_of_p(r);
	r->bytes = r->p;
	r->length = Min(r->end - r->p, MAX_ELEMENT);
	/* one level is the list, if there is one */
	lpu_element_begin(r->element, r->bytes, r->length,
					  r->position == AFTER_DOCUMENT ? MAX_LEVELS : MAX_LEVELS - 1);
}

/* Go to the next element and begin with it. */
static LpuReaderState
find_element(LpuReader *r)
{
	for (; r->p < r->end; r->p++)
	{
		int			i;

		if (*r->p == ' ' || *r->p == '\n' || *r->p == '\r' || *r->p == '\t')
			continue;
		for (i = 0; i < lengthof(steps); i++)
			if (steps[i].from == r->position && steps[i].character == *r->p)
				break;
		if (i == lengthof(steps))
			return complain_at(r, misplaced[r->position], offset_of_p(r));
		r->position = steps[i].to;
		if (*r->p == '{')
		{
			begin_element(r);
			return LPU_READER_ELEMENT;
		}
	}
	return r->position == AFTER_DOCUMENT ? LPU_READER_END : want_more(r);
}

/* ----- putting one together ----- */

/* Let *chunk have so much room; its content stays. */
static void
make_room(char **chunk, size_t *room, size_t needed)
{
	if (needed <= *room)
		return;
	*room = Max(needed, 2 * *room);
	*chunk = repalloc(*chunk, *room);
}

/* Take so many bytes more of the element into the buffer. */
static void
collect(LpuReader *r, size_t n)
{
	size_t		before = r->cut ? r->length : 0;

	make_room(&r->buffer, &r->buffer_room, before + n);
	memcpy(r->buffer + before, r->p, n);
	r->p += n;
	r->cut = true;
	r->bytes = r->buffer;
	r->length = before + n;
	lpu_element_extend(r->element, r->bytes, r->length);
}

/* Collect more bytes of an element that is cut. Return false if there are none at hand. */
static bool
get_more(LpuReader *r)
{
	size_t		step;

	if (!r->cut)
	{
		/* it has been read to the end of the piece */
		collect(r, r->length);
		return false;
	}
	step = Min(Max(r->length, MIN_STEP), MAX_STEP);
	step = Min(step, MAX_ELEMENT - r->length);
	step = Min(step, r->end - r->p);
	if (step > 0)
		collect(r, step);
	return step > 0;
}

/* ----- handing over ----- */

/* Write a value from these bytes. Returns where the next one may be written. */
static char *
copy_value(LpuValue *value, const char *bytes, const LpuFoundValue *found, char *out)
{
	const char *start = bytes + found->start;
	size_t		length = found->length;

	value->type = found->type;
	value->text = NULL;
	value->length = 0;
	if (found->type < LPU_VALUE_NUMBER)
		return out;
	value->text = out;
	if (found->type == LPU_VALUE_STRING)
	{
		/* its quotes */
		start++;
		length -= 2;
	}
	if (found->type == LPU_VALUE_STRING && found->escaped)
		out = lpu_token_decode(out, start, start + length);
	else
	{
		memcpy(out, start, length);
		out += length;
	}
	value->length = out - value->text;
	*out = '\0';
	return out + 1;
}

/* The element is complete. */
static LpuReaderState
hand_over(LpuReader *r)
{
	const LpuFoundValue *found = lpu_element_found(r->element);
	LpuFoundValue all = {.type = LPU_VALUE_NESTED,
	.length = (uint32) lpu_element_offset(r->element)};
	size_t		room = r->whole ? all.length + 1 : 0;
	uint32		nul_at = r->whole ? lpu_element_nul_at(r->element) : 0;
	char	   *out;
	int			i;

	r->inside = false;
	/* of what was collected, the rest was for nothing */
	r->p = r->cut ? r->p - (r->length - all.length) : r->p + all.length;
	for (i = 0; i < r->n; i++)
	{
		room += found[i].length + 1;
		nul_at = Max(nul_at, found[i].nul_at);
	}
	if (nul_at > 0)
		return complain_at(r, "\\u0000, which is no text,", r->element_at + nul_at);
	make_room(&r->texts, &r->texts_room, room);
	out = r->texts;
	if (r->whole)
		out = copy_value(&r->whole_value, r->bytes, &all, out);
	for (i = 0; i < r->n; i++)
		if (r->same[i] < i)
			r->values[i] = r->values[r->same[i]];
		else
			out = copy_value(&r->values[i], r->bytes, &found[i], out);
	return LPU_READER_ELEMENT;
}

/*
 * Read on, and return whether there is an element, more bytes are needed, the array has ended,
 * or the text is wrong.
 */
LpuReaderState
lpu_reader_next(LpuReader *r)
{
	LpuReaderState state;
	const char *problem;

	if (r->complaint[0] != '\0')
		return LPU_READER_WRONG;
	if (!r->inside && (state = find_element(r)) != LPU_READER_ELEMENT)
		return state;
	do
	{
		switch (lpu_element_read(r->element, &problem))
		{
			case LPU_ELEMENT_COMPLETE:
				return hand_over(r);
			case LPU_ELEMENT_WRONG:
				return complain_at(r, problem, r->element_at + lpu_element_offset(r->element));
			case LPU_ELEMENT_CUT:
				break;
		}
	} while (get_more(r));
	if (r->length == MAX_ELEMENT)
		return complain_at(r, "an element larger than 1 MB", r->element_at);
	return want_more(r);
}

/* Return the n values of an element, valid until the next lpu_reader_next(). */
const LpuValue *
lpu_reader_values(const LpuReader *r)
{
	return r->values;
}

/* Return an element as it is written, a NESTED value, valid until the next lpu_reader_next(). */
const LpuValue *
lpu_reader_whole(const LpuReader *r)
{
	return &r->whole_value;
}

/* Return what is wrong and at which byte, after WRONG. The document is never quoted. */
const char *
lpu_reader_complaint(const LpuReader *r)
{
	return r->complaint;
}

/* Return the value of a string, or a number as it is written; NULL for anything else. */
const char *
lpu_value_text(const LpuValue *value)
{
	return value->type == LPU_VALUE_STRING || value->type == LPU_VALUE_NUMBER ? value->text : NULL;
}
