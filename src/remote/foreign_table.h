/*
 * foreign_table.h: what an account offers as tables, and how a foreign table shows it.
 */
#ifndef LPU_REMOTE_FOREIGN_TABLE_H
#define LPU_REMOTE_FOREIGN_TABLE_H

#include "utils/relcache.h"

#include "api/users_api.h"
#include "options/option.h"
#include "user/attribute.h"

/* One kind of entity. */
typedef struct LpuResource
{
	LpuResourceId id;
	LpuMethod	list;			/* how all are read */
	const char *what;			/* for messages: "list users" */
	const LpuAttribute *attributes;
	const int  *nattributes;
	int			rows;			/* how many to expect before ANALYZE */
} LpuResource;

/* Return the resource of a table's option. */
extern const LpuResource *lpu_resource_of(LpuResourceId id);

/* A column of a foreign table. */
typedef struct LpuColumn
{
	const char *name;			/* NULL: the column was dropped */
	const char *attribute;		/* the API's name; "*": the whole entity */
	const LpuAttribute *def;	/* NULL: this version does not know it */
	LpuValueKind kind;
	bool		whole;			/* shows the whole entity */
	bool		secret;			/* can be written, never read */
	Oid			type;
	int32		typmod;
} LpuColumn;

/* A foreign table. Column number i is columns[i - 1]. */
typedef struct LpuForeignTable
{
	const LpuResource *resource;
	Oid			server;
	int			updatable;		/* 0 or 1, -1: as its server */
	const char *name;
	const char *qualified_name; /* with its schema, quoted */
	int			ncolumns;
	LpuColumn  *columns;
	int			id_column;		/* number of the column that shows "id", 0:
								 * none */
	int			deleted_column;
	int			login_column;
} LpuForeignTable;

/* Read a foreign table from the catalogs, in the current memory context. */
extern LpuForeignTable *lpu_table_read(Relation relation);

/*
 * Return the columns that IMPORT FOREIGN SCHEMA declares for a resource, "name type, name type,
 * ...". Allocated in the current memory context.
 */
extern char *lpu_resource_columns(const LpuResource *resource);

/*
 * The name of the attribute that a column shows unless an option says
 * otherwise: login_name is loginName; the reverse.
 */
extern char *lpu_attribute_of_column(const char *column);
extern char *lpu_column_of_attribute(const char *attribute);

/* Return the number of the column that shows an attribute, or 0. */
extern int	lpu_table_column(const LpuForeignTable *table, const char *attribute);

#endif
