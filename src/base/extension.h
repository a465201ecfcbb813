/*
 * extension.h: acting as the owner of the extension's tables.
 */
#ifndef LPU_BASE_EXTENSION_H
#define LPU_BASE_EXTENSION_H

/* Who one was before. */
typedef struct lpu_identity
{
	Oid			role;
	int			context;
} lpu_identity;

/*
 * Become the owner of the tables in the extension's schema, until lpu_become_again(). On error the abort of the
 * transaction does that. Every name and operator in statements that run meanwhile must be qualified, because the
 * caller's search_path is in force.
 */
extern void lpu_become_owner(Oid schema, lpu_identity *before);
extern void lpu_become_again(const lpu_identity *before);

/* The schema of the extension, InvalidOid if it is not installed. */
extern Oid	lpu_extension_schema(void);

/* Run a statement as the owner, with SPI connected; raises if it fails. */
extern void lpu_execute_as_owner(Oid schema, const char *sql, int nargs, Oid *types, Datum *values, const char *nulls);

/* A value of type name. */
extern Datum lpu_name_datum(const char *name);

#endif
