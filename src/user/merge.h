/*
 * merge.h: attributes that are laid over a user as the account has it.
 */
#ifndef LPU_USER_MERGE_H
#define LPU_USER_MERGE_H

#include "user/attribute.h"

extern Jsonb *lpu_user_lay(Jsonb *entity, Jsonb *set);
extern bool lpu_user_hides(Jsonb *entity, const LpuAttribute *attribute);
extern Jsonb *lpu_jsonb_without(Jsonb *object, const char *name);
extern Jsonb *lpu_jsonb_of_member(Jsonb *object, const char *name);

#endif
