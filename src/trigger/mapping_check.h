/*
 * mapping_check.h: a mapping against its table, before a trigger is created.
 */
#ifndef LPU_TRIGGER_MAPPING_CHECK_H
#define LPU_TRIGGER_MAPPING_CHECK_H

#include "utils/relcache.h"

#include "base/compat.h"
#include "trigger/mapping.h"

/* Raise an error unless a trigger on the table can have this mapping. */
extern void lpu_mapping_check(const LpuMapping *mapping, Relation table, const char *transition,
							  bool require_password);

/* Raise 22023 for a mapping that no trigger can have. */
pg_noreturn extern void lpu_mapping_raise(const char *detail);

#endif
