/*
 * compat.h: what differs between the versions of PostgreSQL that we build on
 * (15 and later), in one place.
 */
#ifndef LPU_BASE_COMPAT_H
#define LPU_BASE_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "lpusers needs PostgreSQL 15 or later"
#endif

#include "fmgr.h"
#include "utils/wait_event.h"

/*
 * Since 16 a module exports only what is marked PGDLLEXPORT, and
 * PG_FUNCTION_INFO_V1() marks the function.  Before, the Makefile hides all
 * symbols, and the marks are made here.
 */
#if PG_VERSION_NUM < 160000
#undef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))
#undef PG_FUNCTION_INFO_V1
#define PG_FUNCTION_INFO_V1(function) \
extern PGDLLEXPORT Datum function(PG_FUNCTION_ARGS); \
extern PGDLLEXPORT const Pg_finfo_record *CppConcat(pg_finfo_, function) (void); \
const Pg_finfo_record * \
CppConcat(pg_finfo_, function) (void) \
{ \
	static const Pg_finfo_record info = {1}; \
	return &info; \
} \
extern int	no_such_variable
#endif

/* 18 spells it as C11 does, in front of the declaration. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* 18 shows name and version of a loaded module. */
#if PG_VERSION_NUM >= 180000
#define LPU_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "lpusers", .version = LPU_VERSION)
#else
#define LPU_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/*
 * Return the number of a wait event; the caller keeps it in a static variable
 * that was 0.  17 lets an extension name its wait events. They are registered
 * in shared memory, so at first use, never in the postmaster.
 */
static inline uint32
lpu_wait_event(uint32 *event, const char *name)
{
#if PG_VERSION_NUM >= 170000
	if (*event == 0)
		*event = WaitEventExtensionNew(name);
	return *event;
#else
	return PG_WAIT_EXTENSION;
#endif
}

/*
 * A wait event set that lives as long as the process; 17 asks for a resource
 * owner instead of a memory context.
 */
#if PG_VERSION_NUM >= 170000
#define LPU_CREATE_WAIT_EVENT_SET(n) CreateWaitEventSet(NULL, (n))
#else
#define LPU_CREATE_WAIT_EVENT_SET(n) CreateWaitEventSet(TopMemoryContext, (n))
#endif

/* 17 asks whether a stronger lock will do as well. */
#if PG_VERSION_NUM >= 170000
#define LPU_LOCK_HELD_BY_ME(tag, mode) LockHeldByMe((tag), (mode), false)
#else
#define LPU_LOCK_HELD_BY_ME(tag, mode) LockHeldByMe((tag), (mode))
#endif

/* Read so many bytes of a temporary file or raise; 16 has a function for it. */
#if PG_VERSION_NUM >= 160000
#define LPU_BUFFILE_READ(file, data, length) BufFileReadExact((file), (data), (length))
#else
#define LPU_BUFFILE_READ(file, data, length) \
	do { \
		if (BufFileRead((file), (data), (length)) != (length)) \
			ereport(ERROR, \
					(errcode_for_file_access(), \
					 errmsg("could not read from a temporary file: %m"))); \
	} while (0)
#endif

/* A path to scan a foreign table; 17 has room for restrictions of a join, 18 for disabled nodes. */
#if PG_VERSION_NUM >= 180000
#define LPU_FOREIGNSCAN_PATH(root, rel, rows, startup, total, outer, private) \
	create_foreignscan_path((root), (rel), NULL, (rows), 0, (startup), (total), \
							NIL, (outer), NULL, NIL, (private))
#elif PG_VERSION_NUM >= 170000
#define LPU_FOREIGNSCAN_PATH(root, rel, rows, startup, total, outer, private) \
	create_foreignscan_path((root), (rel), NULL, (rows), (startup), (total), \
							NIL, (outer), NULL, NIL, (private))
#else
#define LPU_FOREIGNSCAN_PATH(root, rel, rows, startup, total, outer, private) \
	create_foreignscan_path((root), (rel), NULL, (rows), (startup), (total), \
							NIL, (outer), NULL, (private))
#endif

/*
 * The columns of a result relation that an UPDATE sets, also the generated
 * ones; 16 keeps them with the permissions, and since 15.2 the range table
 * does not have the generated ones any more.
 */
#if PG_VERSION_NUM >= 160000
#define LPU_UPDATED_COLUMNS(root, index) \
	get_rel_all_updated_cols((root), find_base_rel((root), (index)))
#elif PG_VERSION_NUM >= 150002
#define LPU_UPDATED_COLUMNS(root, index) \
	bms_union(planner_rt_fetch((index), (root))->updatedCols, \
			  get_dependent_generated_columns((root), (index), \
											  planner_rt_fetch((index), (root))->updatedCols))
#else
#define LPU_UPDATED_COLUMNS(root, index) \
	bms_union(planner_rt_fetch((index), (root))->updatedCols, \
			  planner_rt_fetch((index), (root))->extraUpdatedCols)
#endif

/* 18 tells a pause in ANALYZE from one in VACUUM. */
#if PG_VERSION_NUM >= 180000
#define LPU_VACUUM_DELAY_POINT() vacuum_delay_point(true)
#else
#define LPU_VACUUM_DELAY_POINT() vacuum_delay_point()
#endif

/* 18 gave up a parameter of ExecutorRun(). */
#if PG_VERSION_NUM >= 180000
#define LPU_EXECUTE_ONCE_PARAM
#define LPU_EXECUTE_ONCE
#else
#define LPU_EXECUTE_ONCE_PARAM , bool execute_once
#define LPU_EXECUTE_ONCE , execute_once
#endif

/* Whose rights a scan or a write of a foreign table uses: 16 keeps that in the plan. */
#if PG_VERSION_NUM >= 160000
#define LPU_SCAN_ROLE(node) \
	(OidIsValid(castNode(ForeignScan, (node)->ss.ps.plan)->checkAsUser) ? \
	 castNode(ForeignScan, (node)->ss.ps.plan)->checkAsUser : GetUserId())
#define LPU_WRITE_ROLE(info, estate) ExecGetResultRelCheckAsUser((info), (estate))
#else
#define LPU_RTE_ROLE(rte) (OidIsValid((rte)->checkAsUser) ? (rte)->checkAsUser : GetUserId())
#define LPU_SCAN_ROLE(node) \
	LPU_RTE_ROLE(exec_rt_fetch(castNode(ForeignScan, (node)->ss.ps.plan)->scan.scanrelid, \
							   (node)->ss.ps.state))
/* a partition that rows are routed to has no entry of its own */
#define LPU_WRITE_ROLE(info, estate) \
	LPU_RTE_ROLE(exec_rt_fetch((info)->ri_RangeTableIndex != 0 ? (info)->ri_RangeTableIndex : \
							   (info)->ri_RootResultRelInfo->ri_RangeTableIndex, (estate)))
#endif

/* 16 folded the right to a kind of object into one function. */
#if PG_VERSION_NUM >= 160000
#define LPU_SERVER_USAGE(server, role) \
	object_aclcheck(ForeignServerRelationId, (server), (role), ACL_USAGE)
#define LPU_WRAPPER_USAGE(wrapper, role) \
	object_aclcheck(ForeignDataWrapperRelationId, (wrapper), (role), ACL_USAGE)
#define LPU_FUNCTION_EXECUTE(function, role) \
	object_aclcheck(ProcedureRelationId, (function), (role), ACL_EXECUTE)
#else
#define LPU_SERVER_USAGE(server, role) pg_foreign_server_aclcheck((server), (role), ACL_USAGE)
#define LPU_WRAPPER_USAGE(wrapper, role) \
	pg_foreign_data_wrapper_aclcheck((wrapper), (role), ACL_USAGE)
#define LPU_FUNCTION_EXECUTE(function, role) pg_proc_aclcheck((function), (role), ACL_EXECUTE)
#endif

/*
 * 16 folded the ownership of objects into one function; it also lets a
 * membership forbid SET ROLE.
 */
#if PG_VERSION_NUM >= 160000
#define LPU_OWNS_TABLE(table, role) object_ownercheck(RelationRelationId, (table), (role))
#define LPU_MAY_BECOME(member, role) member_can_set_role((member), (role))
#else
#define LPU_OWNS_TABLE(table, role) pg_class_ownercheck((table), (role))
#define LPU_MAY_BECOME(member, role) is_member_of_role((member), (role))
#endif

/* 18 has generated columns that are computed when they are read; triggers see null in them. */
#if PG_VERSION_NUM >= 180000
#define LPU_IS_VIRTUAL(column) ((column)->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
#else
#define LPU_IS_VIRTUAL(column) false
#endif

#endif
