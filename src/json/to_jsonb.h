/*
 * to_jsonb.h: a response's body as jsonb.
 */
#ifndef LPU_JSON_TO_JSONB_H
#define LPU_JSON_TO_JSONB_H

#include "utils/jsonb.h"

/* Return a response body as jsonb in the current memory context. */
extern Jsonb *lpu_body_as_jsonb(const char *body, size_t length, const char **complaint);

#endif
