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
 * Return a reader of an array of objects, or of one object as an array of one. names are the
 * attributes wanted of each element, and one may occur twice; whole also asks for the element's
 * text.
 */
extern LpuReader *lpu_reader_new(const char *const *names, int n, bool whole);

/*
 * Hand over the next bytes, after MORE or END; they must stay valid until the reader returns
 * MORE or END again.
 */
extern void lpu_reader_feed(LpuReader *reader, const char *data, size_t length);

/* Note that no more bytes will come: an unfinished element is WRONG from now on. */
extern void lpu_reader_end(LpuReader *reader);

extern LpuReaderState lpu_reader_next(LpuReader *reader);

/* Return the n values of an element, valid until the next lpu_reader_next(). */
extern const LpuValue *lpu_reader_values(const LpuReader *reader);

/* Return an element as it is written, a NESTED value, valid until the next lpu_reader_next(). */
extern const LpuValue *lpu_reader_whole(const LpuReader *reader);

/* Return what is wrong and at which byte, after WRONG. The document is never quoted. */
extern const char *lpu_reader_complaint(const LpuReader *reader);

/* Return the value of a string, or a number as it is written; NULL for anything else. */
extern const char *lpu_value_text(const LpuValue *value);

#endif
