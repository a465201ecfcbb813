/*-------------------------------------------------------------------------
 *
 * listing.c
 *	  The list of all users, kept until something changes.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "account.h"
#include "listing.h"
#include "view.h"

/* The last listing, and what it is of. */
static struct
{
	View	   *view;
	char	   *view_text;
	unsigned	view_number;
	Body	   *listing;
	unsigned	listing_view;
	int64_t		listing_revision;
	bool		listing_deleted;
}			last;

/* As view_of_request, but the same number as last time if it is the same view. */
static const View *
listing_view(const Request *req)
{
	char	   *text;
	View	   *view = view_of_request(req, "id,deleted,loginName,pid", "list_form", &text);

	if (last.view_text && strcmp(text, last.view_text) == 0)
	{
		view_free(view);
		free(text);
		return last.view;
	}
	view_free(last.view);
	free(last.view_text);
	last.view = view;
	last.view_text = text;
	last.view_number++;
	return view;
}

static void
put_listed_user(Buf *b, User *u, const View *view)
{
	size_t		from = b->len;

	if (u->text && u->text_view == last.view_number)
	{
		buf_put(b, u->text, u->textlen);
		return;
	}
	put_entity(b, u->entity, view);
	free(u->text);
	u->textlen = b->len - from;
	u->text = need(malloc(u->textlen + 1));
	memcpy(u->text, b->data + from, u->textlen + 1);
	u->text_view = last.view_number;
}

/*
 * The whole list.  Kept until something changes; even then only what changed
 * is written anew, so that a client which creates and lists in turn measures
 * itself and not this program.
 */
Body *
listing_build(const Request *req, bool deleted)
{
	const View *view = listing_view(req);
	Buf			b = {0};
	const char *comma = "";

	if (last.listing && last.listing_view == last.view_number &&
		last.listing_revision == account.revision && last.listing_deleted == deleted)
		return body_share(last.listing);
	buf_room(&b, last.listing ? last.listing->len : 1024);
	buf_put(&b, "[", 1);
	for (size_t i = 0; i < account.nusers; i++)
	{
		if (account.users[i]->deleted && !deleted)
			continue;
		buf_puts(&b, comma);
		put_listed_user(&b, account.users[i], view);
		comma = ",";
	}
	buf_put(&b, "]", 1);
	body_release(last.listing);
	last.listing = body_from(&b);
	last.listing_view = last.view_number;
	last.listing_revision = account.revision;
	last.listing_deleted = deleted;
	return body_share(last.listing);
}

/* Drop the list that was kept. */
void
listing_forget(void)
{
	body_release(last.listing);
	last.listing = NULL;
}
