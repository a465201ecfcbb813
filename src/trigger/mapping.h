/*
 * mapping.h: from rows of a table to users: the arguments of a trigger.
 */
#ifndef LPU_TRIGGER_MAPPING_H
#define LPU_TRIGGER_MAPPING_H

#include "executor/spi.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

#include "user/attribute.h"

/* "attribute=expression" of a trigger. */
typedef struct LpuMappedAttribute
{
	const LpuAttribute *attribute;
	char	   *expression;
} LpuMappedAttribute;

/* The arguments of a trigger, read. */
typedef struct LpuMapping
{
	char	   *account;
	LpuMappedAttribute *attributes;
	int			nattributes;
	char	   *condition;		/* when=, or NULL */
	char	   *also;			/* condition that lp_enqueue_rows() adds, or
								 * NULL */
	bool		sync;			/* mode=sync */
	bool		raise;			/* on_error=raise */
} LpuMapping;

/* Under which names and with which parameters the expressions of a mapping are read. */
typedef struct LpuMappingScope
{
	const char *table;			/* present name of the table that the trigger
								 * was created on */
	int			nparams;
	Oid		   *types;			/* of the parameters */
} LpuMappingScope;

/* Read the arguments of a trigger: the account, then name=value. */
extern LpuMapping *lpu_mapping_read(int nargs, char *const *args);

/*
 * Which argument is being evaluated: the number of an attribute, or that of
 * attributes for the condition, one more for that of lp_enqueue_rows(); -1:
 * none.
 */
typedef struct LpuMappingPlace
{
	const LpuMapping *mapping;
	int			at;
} LpuMappingPlace;

/*
 * Name the argument that is evaluated: a callback for error_context_stack whose argument is a
 * LpuMappingPlace.
 */
extern void lpu_mapping_context(void *place);

/*
 * Return the query for the attributes of users and then the columns of the key, over the rows of
 * source. before is the source of the old row, or NULL; with it, the condition must have become
 * true. marker is the number of a boolean parameter, always true, that is read just before the
 * first attribute's expression is evaluated; the parameters after it are those of the further
 * attributes and of the two conditions.
 */
extern char *lpu_mapping_query(const LpuMapping *mapping, List *key, const char *source,
							   const char *before, int marker);

/* Prepare a query over rows, with SPI connected. */
extern SPIPlanPtr lpu_mapping_prepare(const char *sql, LpuMappingScope *scope);

/*
 * Plan each expression by itself, with SPI connected, so that the error of one that does not
 * compile names it.
 */
extern void lpu_mapping_try(const LpuMapping *mapping, const char *source,
							const LpuMappingScope *scope, int nrows,
							bool start);

/*
 * Return the names of the columns of the primary key, in the current memory context; NIL if
 * there is none.
 */
extern List *lpu_mapping_key(Relation table);

#endif
