/*
 * tree_size.h: how much memory a JSON document takes as a tree.
 */
#ifndef LPU_JSON_TREE_SIZE_H
#define LPU_JSON_TREE_SIZE_H

/*
 * Return an estimate, in bytes, of what json-c and jsonb_in() allocate for this
 * text. The text need not be valid.
 */
extern uint64 lpu_json_tree_size(const char *text, size_t length);

#endif
