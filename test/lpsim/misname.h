/*
 * misname.h
 *	  Successes whose body names other users than the request, or none.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_MISNAME_H
#define LPSIM_MISNAME_H

#define MISNAMES "empty_array|empty_object|null|other|no_id|string_id|double_id|exponent_id|" \
	"wrong_id|null_id|first_only|reversed|twice"

#endif
