/*
 * tree_size.h: how much memory a JSON document takes as a tree.
 */
#ifndef LPU_JSON_TREE_SIZE_H
#define LPU_JSON_TREE_SIZE_H

/* Return the memory that a JSON text takes as a tree, estimated. */
extern uint64 lpu_json_tree_size(const char *text, size_t length);

#endif
