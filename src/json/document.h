/*
 * document.h: JSON documents, read and written by json-c.
 */
#ifndef LPU_JSON_DOCUMENT_H
#define LPU_JSON_DOCUMENT_H

typedef struct LpuJson LpuJson;

/*
 * Parse a document of at most 32 levels. NULL if it is not JSON (or not
 * UTF-8). It lives as long as the memory context that is current now, and so
 * do the pieces taken from it.
 */
extern LpuJson *lpu_json_parse(const char *text, size_t length);

/* A member of an object, an element of an array; NULL if there is none. */
extern LpuJson *lpu_json_member(LpuJson *json, const char *name);
extern LpuJson *lpu_json_element(LpuJson *json, int i);

/* Return the number of elements, or -1 if the value is not an array. */
extern int	lpu_json_length(LpuJson *json);

/* Return the value of a string, or the text of a number. */
extern const char *lpu_json_text(LpuJson *json);

/* Return an object of strings as JSON text, from names and values in turn. */
extern char *lpu_json_build_object(const char *const *names_and_values, int npairs);

/*
 * What an error body says, and its codes alone.  In the database's encoding;
 * NULL if there is nothing.
 */
extern char *lpu_json_error_text(const char *body, size_t length);
extern char *lpu_json_error_codes(const char *body, size_t length);

#endif
