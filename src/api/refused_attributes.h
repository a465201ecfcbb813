/*
 * refused_attributes.h: attributes that an account shows and does not take back.
 */
#ifndef LPU_API_REFUSED_ATTRIBUTES_H
#define LPU_API_REFUSED_ATTRIBUTES_H

#include "utils/jsonb.h"

#include "api/users_api.h"

/* Return true if the request sets this attribute, so that it cannot be left out. */
typedef bool (*LpuSetsAttribute) (void *request, const char *attribute);

/* Learn which attributes an update was refused for. */
extern bool lpu_refused_learn(const LpuOptions *options, const LpuApiRequest *request,
							  const LpuApiAnswer *answer, LpuSetsAttribute sets, void *arg);

/* Return an entity of the account without what it does not take back. */
extern Jsonb *lpu_refused_strip(const LpuOptions *options, Jsonb *entity);

#endif
