/*
 * extension.h: acting as the owner of the extension's tables.
 */
#ifndef LPU_BASE_EXTENSION_H
#define LPU_BASE_EXTENSION_H

/* The role, security context and settings to return to. */
typedef struct LpuSavedIdentity
{
	Oid			role;
	int			context;
	int			guc_level;
} LpuSavedIdentity;

/* Act as the owner of the tables between the two, never across a COMMIT. lpu_run() does both. */
extern void lpu_become_owner(Oid schema, LpuSavedIdentity *before);
extern void lpu_become_again(const LpuSavedIdentity *before);

/* Raise 42501 if the owner of the tables may not use the functions of the extension. */
extern void lpu_check_tables_owner(void);

/* Return false if the owner's statements are refused with 42501, whatever the rows. */
extern bool lpu_owner_may_write(void);

/* The schema of the extension, InvalidOid if it is not installed. */
extern Oid	lpu_extension_schema(void);

/* Return a relation's name with its schema, quoted; raise 42P01 if there is none with this OID. */
extern char *lpu_relation_name(Oid relation);

/* The same of a name and its schema, whatever the session's quote_all_identifiers is. */
extern char *lpu_qualified_name(const char *schema, const char *name);

#endif
