/*
 * http.h
 *	  The server: doors, connections, and requests while they arrive.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_HTTP_H
#define LPSIM_HTTP_H

#include <pthread.h>
#include <stdint.h>
#include "request.h"

extern pthread_mutex_t lock;

extern Door doors[2];

/* TCP connections which brought a request to the account, and those still there */
extern int64_t connections_seen;
extern int64_t connections_open;

extern void door_open(Door *door, int port);
extern void put_url(Buf *b, const Door *door);

#endif
