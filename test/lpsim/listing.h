/*
 * listing.h
 *	  The list of all users, kept until something changes.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_LISTING_H
#define LPSIM_LISTING_H

#include "request.h"
#include "text.h"

extern Body *listing_build(const Request *req, bool deleted);
extern void listing_forget(void);

#endif
