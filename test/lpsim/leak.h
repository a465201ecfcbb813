/*
 * leak.h
 *	  Errors which repeat the secrets of the request.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_LEAK_H
#define LPSIM_LEAK_H

#define ENCODINGS "plain|slash|unicode|upper|mixed"

#endif
