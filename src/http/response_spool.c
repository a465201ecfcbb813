/*
 * response_spool.c: the bytes of a long response between the network and their reader.
 *
 * Bytes are received as fast as the network delivers them, independent of the reader, because a
 * service may close the connection of a slow reader. They are kept in memory; when that is full,
 * the request pauses and everything unread is written to a temporary file, outside of libcurl,
 * where raising is allowed. The file's unread bytes are older than those in memory. Of two
 * buffers one is filled while the other is read, so that bytes are copied once if the reader
 * keeps up.
 *
 * Memory: the buffers are malloc'ed, because libcurl's callback fills them; a reset callback of
 * the memory context frees them. The file is a temporary file of PostgreSQL: it ends with the
 * spool's resource owner and counts towards temp_file_limit.
 */
#include "postgres.h"

#include "storage/buffile.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/compat.h"
#include "http/response_spool.h"

/* Both buffers together are 8 MB: enough to smooth out a reader, little for a backend. */
#define MAX_FILL ((size_t) 4 * 1024 * 1024)

/* A list of 20 users fits; doubling reaches MAX_FILL in 8 steps. */
#define FIRST_FILL 16384

/*
 * The most that one turn accepts. A fast network could otherwise deliver megabytes at a time,
 * which would go through the file although the reader keeps up, and would delay the first row.
 */
#define TURN_BYTES 262144

/* What is read back from the file at a time. */
#define FILE_PIECE 262144

typedef struct SpoolBuffer
{
	char	   *data;
	size_t		used;
	size_t		room;
} SpoolBuffer;

struct LpuSpool
{
	LpuHttpSink sink;			/* first: a sink is also a spool */
	SpoolBuffer fill;			/* newest bytes */
	SpoolBuffer given;			/* what the reader has */
	bool		full;			/* a piece was refused for lack of memory */
	size_t		turn;			/* bytes of this turn */
	BufFile    *file;			/* older bytes, or NULL */
	int64		file_read;
	int64		file_written;
	int64		written;
	MemoryContext context;
	ResourceOwner owner;		/* of the file */
	MemoryContextCallback on_reset;
};

static bool
grow_buffer(SpoolBuffer *b, size_t room)
{
	char	   *larger;

	if (room <= b->room)
		return true;
	larger = realloc(b->data, room);
	if (larger == NULL)
		return false;
	b->data = larger;
	b->room = room;
	return true;
}

/* Called by libcurl: nothing here may raise. */
static bool
spool_write(LpuHttpSink *sink, const char *data, size_t length)
{
	LpuSpool   *spool = (LpuSpool *) sink;
	SpoolBuffer *fill = &spool->fill;
	size_t		needed = fill->used + length;

	if (spool->turn >= TURN_BYTES)
		return false;
	if ((needed > MAX_FILL && fill->used > 0) ||
		!grow_buffer(fill, needed <= fill->room ? 0 : Max(Max(needed, fill->room * 2), FIRST_FILL)))
	{
		spool->full = true;
		return false;
	}
	memcpy(fill->data + fill->used, data, length);
	fill->used += length;
	spool->turn += length;
	spool->written += length;
	return true;
}

static void
free_buffers(void *arg)
{
	LpuSpool   *spool = arg;

	free(spool->fill.data);
	free(spool->given.data);
}

/*
 * Return an empty spool in the current memory context, which also frees it. Its file belongs to
 * the current resource owner; unless that ends by an abort, lpu_spool_close() must close it.
 */
LpuSpool *
lpu_spool_new(void)
{
	LpuSpool   *spool = palloc0(sizeof(LpuSpool));

	spool->context = CurrentMemoryContext;
	spool->owner = CurrentResourceOwner;
	spool->sink.write = spool_write;
	spool->on_reset.func = free_buffers;
	spool->on_reset.arg = spool;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &spool->on_reset);
	return spool;
}

/* Return the sink to which a request writes its response. */
LpuHttpSink *
lpu_spool_sink(LpuSpool *spool)
{
	return &spool->sink;
}

static void
seek(BufFile *file, int64 at)
{
	if (BufFileSeek(file, 0, (off_t) at, SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not seek in a temporary file: %m")));
}

/* The file may be needed in a subtransaction that ends before the spool does. */
static void
open_file(LpuSpool *spool)
{
	MemoryContext caller = MemoryContextSwitchTo(spool->context);
	ResourceOwner caller_owner = CurrentResourceOwner;

	CurrentResourceOwner = spool->owner;
	spool->file = BufFileCreateTemp(false);
	CurrentResourceOwner = caller_owner;
	MemoryContextSwitchTo(caller);
}

static void
close_file(LpuSpool *spool)
{
	BufFileClose(spool->file);
	spool->file = NULL;
	spool->file_read = spool->file_written = 0;
}

/* Close the temporary file and free the memory. */
void
lpu_spool_close(LpuSpool *spool)
{
	if (spool->file != NULL)
		close_file(spool);
}

/* Write the bytes in memory to the file. */
static void
write_file(LpuSpool *spool)
{
	if (spool->fill.used == 0)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	if (spool->file == NULL)
		open_file(spool);
	seek(spool->file, spool->file_written);
	BufFileWrite(spool->file, spool->fill.data, spool->fill.used);
	spool->file_written += spool->fill.used;
	spool->fill.used = 0;
	spool->full = false;
}

/*
 * Let the sink accept another 256 kB, so that one turn of the network does not take everything.
 * If memory is full, its content is written to a temporary file first. Raises if the disk is
 * full.
 */
void
lpu_spool_begin_turn(LpuSpool *spool)
{
	if (spool->full)
		write_file(spool);
	spool->turn = 0;
}

/* Read the next piece of the file; close the file at its end. */
static void
read_file(LpuSpool *spool)
{
	size_t		length = Min(FILE_PIECE, spool->file_written - spool->file_read);

	if (!grow_buffer(&spool->given, length))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	seek(spool->file, spool->file_read);
	LPU_BUFFILE_READ(spool->file, spool->given.data, length);
	spool->file_read += length;
	spool->given.used = length;
	if (spool->file_read == spool->file_written)
		close_file(spool);
}

/*
 * Take the next bytes, in order; they stay valid until the next call. Return false if there are
 * none now. Raises if the temporary file cannot be read.
 */
bool
lpu_spool_read(LpuSpool *spool, const char **data, size_t *length)
{
	SpoolBuffer emptied = spool->given;

	if (spool->file != NULL)
		read_file(spool);
	else
	{
		emptied.used = 0;
		spool->given = spool->fill;
		spool->fill = emptied;
		spool->full = false;
	}
	*data = spool->given.data;
	*length = spool->given.used;
	return *length > 0;
}

/*
 * Return true if bytes were refused because memory is full. Then none arrive before the next
 * turn.
 */
bool
lpu_spool_is_full(const LpuSpool *spool)
{
	return spool->full;
}

/* Return how many bytes were written to the spool so far. */
int64
lpu_spool_written(const LpuSpool *spool)
{
	return spool->written;
}
