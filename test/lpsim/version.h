/*
 * version.h
 *	  Versions of the API besides 4.0.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_VERSION_H
#define LPSIM_VERSION_H

#include "entity.h"
#include "request.h"

extern int	version_of(const Request *req);
extern bool version_own(const char *attribute);
extern void put_iso_dates(Buf *b, const char *text);
extern void put_later_attributes(Buf *b, const Entity *e, int version);

/* What an entity of version 2.0 has. */
#define VERSION_2 "id,deleted,loginName,nickname,email,isEnabled,maxChats"

#endif
