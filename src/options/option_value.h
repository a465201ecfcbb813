/*
 * option_value.h: the value of an option, from text.
 */
#ifndef LPU_OPTIONS_OPTION_VALUE_H
#define LPU_OPTIONS_OPTION_VALUE_H

#include "options/option.h"

typedef enum LpuOptionKind
{
	KIND_TEXT,					/* anything but control characters */
	KIND_SECRET,				/* likewise, and never shown */
	KIND_ACCOUNT,
	KIND_VERSION,				/* of the API: 4.0 */
	KIND_HOST,
	KIND_ATTRIBUTE,				/* name of an attribute, or "*" */
	KIND_ORIGIN,				/* https://host[:port] */
	KIND_ORIGIN_OR_HTTP,		/* likewise, or http:// */
	KIND_URL,					/* https://host[:port]/path */
	KIND_PROXY,
	KIND_FILE,					/* absolute path; the last kind whose value is
								 * text */
	KIND_DURATION,				/* int, ms */
	KIND_SIZE,					/* int, bytes */
	KIND_LARGE_SIZE,			/* int, kB */
	KIND_INT,
	KIND_RATE,					/* double */
	KIND_BOOL,
	KIND_BOOL_OR_UNSET,			/* likewise, into an int */
	KIND_DELIVERY,				/* on | paused, into a bool "paused" */
	KIND_IF_MATCH,				/* required | off, into a bool "required" */
	KIND_RESOURCE				/* one of lpu_resource_names, into an int */
} LpuOptionKind;

typedef struct LpuOptionDef
{
	const char *name;
	Oid			catalog;
	LpuOptionKind kind;
	size_t		offset;
	const char *start;			/* default, as one would write it; NULL: not
								 * set */
	int			min;
	int			max;
	bool		superuser_only;
} LpuOptionDef;

/* Set an option from its text. Returns what is wrong with it, or NULL. */
extern const char *lpu_option_set(LpuOptions *options, const LpuOptionDef *def, const char *value);

#endif
