/*
 * merge.h: attributes that are laid over a user as the account has it.
 */
#ifndef LPU_USER_MERGE_H
#define LPU_USER_MERGE_H

#include "user/attribute.h"

extern Jsonb *lpu_user_lay(Jsonb *entity, Jsonb *set);
extern Jsonb *lpu_user_without_secrets(Jsonb *entity);
extern bool lpu_user_hides(Jsonb *entity, const LpuAttribute *attribute);
extern const char *lpu_user_lacks(Jsonb *entity);
extern Jsonb *lpu_jsonb_without(Jsonb *object, const char *name);
extern Jsonb *lpu_jsonb_lay(Jsonb *lower, Jsonb *upper);
extern Jsonb *lpu_jsonb_of_member(Jsonb *object, const char *name);

#endif
