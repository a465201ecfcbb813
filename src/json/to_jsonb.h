/*
 * to_jsonb.h: an answer's body as jsonb.
 */
#ifndef LPU_JSON_TO_JSONB_H
#define LPU_JSON_TO_JSONB_H

#include "utils/jsonb.h"

/*
 * The body as jsonb, in the current memory context. NULL if it is empty, and
 * NULL with *complaint if it is not JSON in UTF-8 or cannot be held by jsonb
 * or the database's encoding. Uses a subtransaction of its own.
 */
extern Jsonb *lpu_body_as_jsonb(const char *body, size_t length, const char **complaint);

#endif
