/*
 * silence.h: senders whose account is unreachable.
 */
#ifndef LPU_QUEUE_SILENCE_H
#define LPU_QUEUE_SILENCE_H

#include "datatype/timestamp.h"

/* SQL: request "r" is of none of these senders (lpu_silence_senders()). */
#define LPU_NOT_SILENT_SQL(r, senders) \
"(" r ".server_oid::bigint << 32) + " r ".send_as_oid::bigint <> ALL (" senders "::bigint[])"

/* The role and server of requests, and the mapping with which these are sent. */
typedef struct LpuSender
{
	const char *account;
	Oid			party;			/* of the server */
	Oid			server;
	Oid			role;
	Oid			mapping;
} LpuSender;

extern void lpu_silence_note(const LpuSender *sender, TimestampTz since, const char *why);
extern int64 lpu_silence_backoff(Oid mapping);
extern int64 lpu_silence_of(const LpuSender *sender, const char **why);
extern long lpu_silence_left(const char *account, Oid party);
extern void lpu_silence_end(Oid mapping);
extern void lpu_silence_end_waits(void);
extern Datum lpu_silence_senders(bool all);
extern bool lpu_silence_any(void);
extern void lpu_silence_tell(const char *account, Oid party);

#endif
