/*
 * definition.h: the definition of a sync.
 */
#ifndef LPU_SYNC_DEFINITION_H
#define LPU_SYNC_DEFINITION_H

#include "executor/spi.h"

#include "options/option.h"
#include "sync/value.h"

/* A column of the source. */
typedef struct LpuSyncColumn
{
	const char *name;
	const LpuAttribute *attribute;	/* NULL: the key alone */
	Oid			type;			/* of the column, domains by their base types */
	int			names;			/* LpuResourceId whose names it holds; -1: the
								 * values themselves */
	bool		is_key;
	bool		create_only;	/* never compared */
	bool		add_only;
} LpuSyncColumn;

typedef struct LpuSync
{
	int64		id;				/* 0: not stored yet */
	const char *name;
	const char *account;
	Oid			server;			/* InvalidOid: it was dropped */
	const char *server_name;	/* when the sync was defined or last run */
	Oid			owner;
	const char *owner_name;
	Oid			source;
	const char *source_name;	/* with its schema, quoted */
	const char *key;
	List	   *create_only;	/* names of columns */
	List	   *add_only;
	const char *drift;
	const char *state;			/* active, paused or quarantined */
	const char *why;
	bool		here;			/* defined or resumed in this database */
	int64		version;		/* how often it was defined */
	int			ncolumns;
	LpuSyncColumn *columns;		/* of lpu_sync_read_columns() */
} LpuSync;

/*
 * Return the sync of this name, in the current memory context, with SPI connected; NULL if there
 * is none.
 */
extern LpuSync *lpu_sync_find(const char *name, bool lock);

/* Likewise; raises if there is none or the current user may not act as its owner. */
extern LpuSync *lpu_sync_named(const char *name, bool lock);
extern LpuSync *lpu_sync_by_id(int64 id, bool lock);

/* Write down what role, server and source are called now. */
extern void lpu_sync_refresh_names(const LpuSync *sync);

/* Return true if the current user may act as the owner of a sync; raise if not. */
extern bool lpu_sync_may_use(const LpuSync *sync);
extern void lpu_sync_check_rights(const LpuSync *sync);

/* Return the options of a sync's server with the mapping of its owner. */
extern const LpuOptions *lpu_sync_options(const LpuSync *sync);

/* The relation that has this name, with its schema and quoted; InvalidOid if there is none. */
extern Oid	lpu_sync_source_named(const char *name);

/* Read the columns of the source, and their meaning; raises 22023 for a column without one. */
extern void lpu_sync_read_columns(LpuSync *sync);

/* Return the column that shows an attribute, or NULL. */
extern const LpuSyncColumn *lpu_sync_column(const LpuSync *sync, const char *attribute);

/*
 * Return the attributes that every user to be created must have and that are no column of the
 * source, a list of const LpuAttribute *.
 */
extern List *lpu_sync_lacking(const LpuSync *sync, bool require_password);

/*
 * Return true if there is an action of this name (which can have a limit, if "limited"); else
 * set *nearest to a similar one, or NULL.
 */
extern bool lpu_sync_is_action(const char *name, bool limited, const char **nearest);

/* Return a text[] of a result as a list of strings. */
extern List *lpu_sync_text_list(SPITupleTable *table, int row, int column);

/* Return a list of strings as a text[]. */
extern Datum lpu_sync_text_array(const List *list);

/* Return in words how a column is interpreted, allocated in the current memory context. */
extern char *lpu_sync_understood_as(const LpuSyncColumn *column);

#endif
