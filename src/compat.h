/*
 * compat.h: what differs between the versions of PostgreSQL that we build on (15 and later), in one place.
 */
#ifndef LPU_COMPAT_H
#define LPU_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "lpusers needs PostgreSQL 15 or later"
#endif

/* A wait event set that lives as long as the process; 17 asks for a resource owner instead of a memory context. */
#if PG_VERSION_NUM >= 170000
#define LPU_CREATE_WAIT_EVENT_SET(n) CreateWaitEventSet(NULL, (n))
#else
#define LPU_CREATE_WAIT_EVENT_SET(n) CreateWaitEventSet(TopMemoryContext, (n))
#endif

/* 16 lets summarizing indexes be done alone; we want all. */
#if PG_VERSION_NUM >= 160000
#define LPU_EXEC_INSERT_INDEX_TUPLES(target, slot, estate) \
	ExecInsertIndexTuples((target), (slot), (estate), false, false, NULL, NIL, false)
#else
#define LPU_EXEC_INSERT_INDEX_TUPLES(target, slot, estate) \
	ExecInsertIndexTuples((target), (slot), (estate), false, false, NULL, NIL)
#endif

/* 18 counts index searches for EXPLAIN. */
#if PG_VERSION_NUM >= 180000
#define LPU_INDEX_BEGINSCAN(table, index, snapshot, n) index_beginscan((table), (index), (snapshot), NULL, (n), 0)
#else
#define LPU_INDEX_BEGINSCAN(table, index, snapshot, n) index_beginscan((table), (index), (snapshot), (n), 0)
#endif

/* 16 folded the right to a kind of object into one function. */
#if PG_VERSION_NUM >= 160000
#define LPU_SERVER_USAGE(server, role) object_aclcheck(ForeignServerRelationId, (server), (role), ACL_USAGE)
#else
#define LPU_SERVER_USAGE(server, role) pg_foreign_server_aclcheck((server), (role), ACL_USAGE)
#endif

#endif
