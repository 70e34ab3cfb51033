/* Texts as llama.cpp encodes them: encode VOCABULARY.gguf; a text in hexadecimal a line in, its ids a line out.
   A line that begins with + has control tokens in it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "llama.h"

enum { MAX_BYTES = 1 << 20 };

static void quiet(enum ggml_log_level level, const char *text, void *user) {
  (void) user;
  if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

int main(int argc, char **argv) {
  static char line[2 * MAX_BYTES + 4];
  static char text[MAX_BYTES];
  static llama_token ids[MAX_BYTES];
  if (argc != 2) return 2;
  llama_log_set(quiet, NULL);
  struct llama_model_params params = llama_model_default_params();
  params.vocab_only = true;
  struct llama_model *model = llama_model_load_from_file(argv[1], params);
  if (model == NULL) return 1;
  const struct llama_vocab *vocab = llama_model_get_vocab(model);
  while (fgets(line, sizeof line, stdin) != NULL) {
    const char *at = line + (line[0] == '+');
    int length = 0;
    for (unsigned byte; sscanf(at, "%2x", &byte) == 1; at += 2) text[length++] = (char) byte;
    int count = llama_tokenize(vocab, text, length, ids, MAX_BYTES, false, line[0] == '+');
    for (int i = 0; i < count; i++) printf(i == 0 ? "%d" : " %d", ids[i]);
    putchar('\n');
  }
  llama_model_free(model);
  return 0;
}
