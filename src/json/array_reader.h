/*
 * array_reader.h: the objects of a JSON array, one after the other, while its bytes arrive.
 */
#ifndef LPU_JSON_ARRAY_READER_H
#define LPU_JSON_ARRAY_READER_H

/* The type of a value in a document. */
typedef enum LpuValueType
{
	LPU_VALUE_ABSENT,
	LPU_VALUE_NULL,
	LPU_VALUE_FALSE,
	LPU_VALUE_TRUE,
	LPU_VALUE_NUMBER,
	LPU_VALUE_STRING,
	LPU_VALUE_NESTED
} LpuValueType;

typedef struct LpuValue
{
	LpuValueType type;
	const char *text;			/* STRING: decoded, UTF-8; NUMBER: as it is
								 * written; NESTED: the JSON as it is written.
								 * NUL-terminated too; NULL of all other types */
	size_t		length;
} LpuValue;

typedef enum LpuReaderState
{
	LPU_READER_ELEMENT,			/* an element: its values are there */
	LPU_READER_MORE,			/* all that was fed is used up */
	LPU_READER_END,				/* the document is complete, and so far
								 * nothing but white space came after it */
	LPU_READER_WRONG			/* not what it has to be; it stays so */
} LpuReaderState;

typedef struct LpuReader LpuReader;

/*
 * Reads an array of objects (or one object, as an array of one). names:
 * attributes wanted of each element; one may be there twice. whole: also its
 * text. Lives in the current memory context; the names must live as long.
 *
 * It takes strict JSON in UTF-8, 32 levels deep at most, elements of at most 1
 * MB, and \u0000 only in attributes that are not wanted. Half a surrogate pair
 * is read as U+FFFD. Of a name that occurs twice in an object the last counts.
 */
extern LpuReader *lpu_reader_new(const char *const *names, int n, bool whole);

/*
 * Hand over the next bytes, when it wants MORE or is at the END; they must
 * stay valid until it says so again.
 */
extern void lpu_reader_feed(LpuReader *reader, const char *data, size_t length);

/* No more bytes will come: what is unfinished is WRONG from now on. */
extern void lpu_reader_end(LpuReader *reader);

extern LpuReaderState lpu_reader_next(LpuReader *reader);

/* n of them, valid until the next lpu_reader_next(). */
extern const LpuValue *lpu_reader_values(const LpuReader *reader);

/* NESTED: the element as it is written. */
extern const LpuValue *lpu_reader_whole(const LpuReader *reader);

/* Of WRONG: what is wrong and at which byte; never quotes the document. */
extern const char *lpu_reader_complaint(const LpuReader *reader);

/* The value of a string, or a number as it is written; NULL of anything else. */
extern const char *lpu_value_text(const LpuValue *value);

#endif
