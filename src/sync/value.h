/*
 * value.h: values of attributes in the form in which a sync compares them.
 */
#ifndef LPU_SYNC_VALUE_H
#define LPU_SYNC_VALUE_H

#include "user/attribute.h"

/* One form for all values of an attribute, so that equal ones are equal byte by byte. */
typedef enum LpuSyncForm
{
	LPU_FORM_TEXT,				/* text: NFC, trimmed */
	LPU_FORM_FOLDED,			/* likewise, compared without regard to case */
	LPU_FORM_NUMBER,			/* numeric */
	LPU_FORM_BOOLEAN,			/* boolean */
	LPU_FORM_SET,				/* bigint[]: ascending, no nulls; a group is a
								 * set of one */
	LPU_FORM_NAMES				/* text[]: likewise, compared without regard
								 * to case */
} LpuSyncForm;

/* Return the form of an attribute, and the type of a form. */
extern LpuSyncForm lpu_sync_form(LpuValueKind kind);
extern Oid	lpu_sync_form_type(LpuSyncForm form);

/* Return true if values of the form are compared by a second one, lpu_sync_fold(). */
extern bool lpu_sync_form_folds(LpuSyncForm form);

/* Return true if a column of this type can hold an attribute, or its names. */
extern bool lpu_sync_type_fits(LpuValueKind kind, bool names, Oid type);

/*
 * Return SQL that converts a column of such a type to the form's type; with "checked", ids of a
 * non-integer type become a numeric[] for lpu_sync_whole_numbers().
 */
extern char *lpu_sync_expression(LpuValueKind kind, bool names, Oid type, bool checked,
								 const char *column);

/* Return SQL for a column as text, which does not depend on TimeZone. */
extern char *lpu_sync_text_expression(Oid type, const char *column);

/* Convert a numeric[] to a bigint[]; return false if a number does not fit. */
extern bool lpu_sync_whole_numbers(Datum numbers, Datum *set);

/* Return what is wrong with a number as the value of an attribute, or NULL. */
extern const char *lpu_sync_number_problem(LpuValueKind kind, Datum number);

/* Convert a value to its form; return the folded value for comparison. */
extern Datum lpu_sync_normalize(LpuSyncForm form, Datum value);
extern Datum lpu_sync_fold(LpuSyncForm form, Datum value);

#endif
