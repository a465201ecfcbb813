/*
 * mapping.h: from rows of a table to users: the arguments of a trigger.
 */
#ifndef LPU_TRIGGER_MAPPING_H
#define LPU_TRIGGER_MAPPING_H

#include "nodes/pg_list.h"
#include "utils/relcache.h"

#include "user/attribute.h"

/* "attribute=expression" of a trigger. */
typedef struct lpu_mapped_attribute
{
	const lpu_attribute *attribute;
	char	   *expression;
} lpu_mapped_attribute;

/* The arguments of a trigger, read. */
typedef struct lpu_mapping
{
	char	   *account;
	lpu_mapped_attribute *attributes;
	int			nattributes;
	char	   *condition;		/* when=, or NULL */
	bool		sync;			/* mode=sync */
	bool		raise;			/* on_error=raise */
} lpu_mapping;

/*
 * Read the arguments of a trigger: the account, then name=value. Raises an ERROR that names the argument if one cannot be
 * read. Allocated in the current memory context.
 */
extern lpu_mapping *lpu_mapping_read(int nargs, char *const *args);

/* Which argument is at work: the number of an attribute, or that of attributes for the condition; -1: none. */
typedef struct lpu_mapping_place
{
	const lpu_mapping *mapping;
	int			at;
} lpu_mapping_place;

/* Callback for error_context_stack whose argument is a lpu_mapping_place: names the argument at work. */
extern void lpu_mapping_context(void *place);

/*
 * The name, quoted, under which expressions see the row: that of the table, or, in a partition, of the partitioned table
 * on which the trigger was created.
 */
extern const char *lpu_mapping_alias(Relation table, Oid trigger);

/*
 * The query that gives the attributes of users, then the columns of the primary key, for the rows of "source" (SQL that
 * stands after FROM, with the alias). "before": likewise for the old row, or NULL; then the condition must have become
 * true. "marker": number of a boolean parameter, always true, that is read just before the first attribute's expression
 * is evaluated; the next ones are those of the further attributes and of the condition. 0: none.
 */
extern char *lpu_mapping_query(const lpu_mapping *mapping, Relation table, const char *alias, const char *source,
							   const char *before, int marker);

/*
 * Plan each expression by itself, with SPI connected, so that the ERROR of one that does not compile names it. "start":
 * and begin to run it, so that the ERROR of one that the current user may not run does, too. At most two parameters.
 */
extern void lpu_mapping_try(const lpu_mapping *mapping, const char *alias, const char *source, int nparams, Oid *types,
							bool start);

/* Set the search_path for expressions over the table; the caller opened a GUC nest level. */
extern void lpu_mapping_pin_path(Relation table);

/* Names of the columns of the primary key (or the replica identity); NIL if there is none. */
extern List *lpu_mapping_key(Relation table);

#endif
