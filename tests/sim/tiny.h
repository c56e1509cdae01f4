/* A models folder small enough to be made anew in a test: a BERT of two layers with the demo's four heads over a few
 * Chinese characters, and a Qwen3 of two layers over bytes, with random weights from a seed. What they say is noise,
 * but it is always the same noise. */
#ifndef KF_TESTS_SIM_TINY_H
#define KF_TESTS_SIM_TINY_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef TINY_POSITIONS
#define TINY_POSITIONS 64 /* of the encoder */
#endif

enum {
    TINY_HIDDEN = 32,
    TINY_INTERMEDIATE = 48,
    TINY_LAYERS = 2,
    TINY_CONTEXT = 128, /* of the decoder */
    TINY_MAX_TENSORS = 64,
    TINY_FIRST_SPECIAL = 256, /* decoder: bytes first, then these */
};

static const char *const tiny_specials[] = {"<|endoftext|>",       "<|user|>",          "<|assistant|>", "<|end|>",
                                            "<|intent:purchase|>", "<|entity:product|>"};
static const char *const tiny_chars[] = {"我", "想", "要", "一", "件", "红", "色", "的", "羽", "绒", "服", "多", "少",
                                         "钱", "退", "货", "在", "吗", "你", "好", "0",  "1",  "2",  "3",  "，", "？"};
enum {
    TINY_N_SPECIALS = sizeof tiny_specials / sizeof *tiny_specials,
    TINY_N_CHARS = sizeof tiny_chars / sizeof *tiny_chars,
    TINY_ENCODER_VOCAB = 5 + TINY_N_CHARS,
    TINY_DECODER_VOCAB = TINY_FIRST_SPECIAL + TINY_N_SPECIALS
};

/* ---- safetensors ---- */

typedef struct tiny_file {
    char header[8192];
    size_t n_header, n_data;
    float *data;
    uint64_t seed;
} tiny_file;

static float tiny_uniform(uint64_t *seed) { /* in [-1, 1), xorshift64* */
    *seed ^= *seed >> 12, *seed ^= *seed << 25, *seed ^= *seed >> 27;
    return (float)((double)((*seed * 0x2545F4914F6CDD1Du) >> 40) / (1 << 23) - 1);
}

static tiny_file tiny_begin(uint64_t seed) {
    tiny_file f = {.data = malloc(4 << 20), .seed = seed};
    f.n_header = (size_t)sprintf(f.header, "{");
    return f;
}

/* n1 0: a vector. base + scale * uniform. */
static void tiny_tensor(tiny_file *f, const char *name, size_t n0, size_t n1, float base, float scale) {
    size_t n = n0 * (n1 ? n1 : 1);
    char shape[48];
    snprintf(shape, sizeof shape, n1 ? "[%zu,%zu]" : "[%zu]", n0, n1);
    f->n_header += (size_t)snprintf(f->header + f->n_header, sizeof f->header - f->n_header,
                                    "%s\"%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                                    f->n_header > 1 ? "," : "", name, shape, f->n_data * 4, (f->n_data + n) * 4);
    for (size_t i = 0; i < n; i++)
        f->data[f->n_data++] = base + scale * tiny_uniform(&f->seed);
}

static void tiny_linear(tiny_file *f, const char *name, size_t n_out, size_t n_in, int bias) {
    char full[96];
    snprintf(full, sizeof full, "%s.weight", name);
    tiny_tensor(f, full, n_out, n_in, 0, 3 / sqrtf((float)n_in));
    snprintf(full, sizeof full, "%s.bias", name);
    if (bias) tiny_tensor(f, full, n_out, 0, 0, 0.2f);
}

static FILE *tiny_open(const char *dir, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f) perror(path), exit(1);
    return f;
}

static void tiny_end(tiny_file *f, const char *dir, const char *name) {
    while (f->n_header % 8 != 7)
        f->header[f->n_header++] = ' ';
    f->header[f->n_header++] = '}';
    uint64_t n = f->n_header;
    FILE *out = tiny_open(dir, name);
    fwrite(&n, 8, 1, out);
    fwrite(f->header, 1, f->n_header, out);
    fwrite(f->data, 4, f->n_data, out);
    fclose(out);
    free(f->data);
}

static void tiny_write(const char *dir, const char *name, const char *text) {
    FILE *f = tiny_open(dir, name);
    fputs(text, f);
    fclose(f);
}

/* ---- the encoder ---- */

static void tiny_head(const char *dir, const char *name, const char *kind, const char *labels, size_t n_labels,
                      uint64_t seed) {
    char file[96], text[1024];
    snprintf(file, sizeof file, "heads/%s.json", name);
    snprintf(text, sizeof text, "{\"name\":\"%s\",\"kind\":\"%s\",\"pooling\":%s,\"labels\":%s,\"activation\":null}",
             name, kind, strcmp(kind, "token") ? "\"mean\"" : "null", labels);
    tiny_write(dir, file, text);
    tiny_file f = tiny_begin(seed);
    tiny_linear(&f, "classifier", n_labels, TINY_HIDDEN, 1);
    snprintf(file, sizeof file, "heads/%s.safetensors", name);
    tiny_end(&f, dir, file);
}

static void tiny_encoder(const char *dir) {
    char name[96], text[1024], heads[512];
    mkdir(dir, 0700);
    snprintf(heads, sizeof heads, "%s/heads", dir);
    mkdir(heads, 0700);
    snprintf(text, sizeof text,
             "{\"architectures\":[\"BertModel\"],\"model_type\":\"bert\",\"vocab_size\":%d,\"hidden_size\":%d,"
             "\"intermediate_size\":%d,\"num_hidden_layers\":%d,\"num_attention_heads\":2,\"hidden_act\":\"gelu\","
             "\"max_position_embeddings\":%d,\"type_vocab_size\":2,\"layer_norm_eps\":1e-12,\"pad_token_id\":0}",
             TINY_ENCODER_VOCAB, TINY_HIDDEN, TINY_INTERMEDIATE, TINY_LAYERS, TINY_POSITIONS);
    tiny_write(dir, "config.json", text);
    FILE *vocab = tiny_open(dir, "vocab.txt");
    fputs("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", vocab);
    for (size_t i = 0; i < TINY_N_CHARS; i++)
        fprintf(vocab, "%s\n", tiny_chars[i]);
    fclose(vocab);

    tiny_file f = tiny_begin(11);
    tiny_tensor(&f, "embeddings.word_embeddings.weight", TINY_ENCODER_VOCAB, TINY_HIDDEN, 0, 1);
    tiny_tensor(&f, "embeddings.position_embeddings.weight", TINY_POSITIONS, TINY_HIDDEN, 0, 1);
    tiny_tensor(&f, "embeddings.token_type_embeddings.weight", 2, TINY_HIDDEN, 0, 1);
    tiny_tensor(&f, "embeddings.LayerNorm.weight", TINY_HIDDEN, 0, 1, 0.1f);
    tiny_tensor(&f, "embeddings.LayerNorm.bias", TINY_HIDDEN, 0, 0, 0.1f);
    static const struct {
        const char *name;
        size_t n_out, n_in;
    } parts[] = {
        {"attention.self.query", TINY_HIDDEN, TINY_HIDDEN},     {"attention.self.key", TINY_HIDDEN, TINY_HIDDEN},
        {"attention.self.value", TINY_HIDDEN, TINY_HIDDEN},     {"attention.output.dense", TINY_HIDDEN, TINY_HIDDEN},
        {"intermediate.dense", TINY_INTERMEDIATE, TINY_HIDDEN}, {"output.dense", TINY_HIDDEN, TINY_INTERMEDIATE}};
    static const char *const norms[] = {"attention.output.LayerNorm", "output.LayerNorm"};
    for (int layer = 0; layer < TINY_LAYERS; layer++) {
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            snprintf(name, sizeof name, "encoder.layer.%d.%s", layer, parts[i].name);
            tiny_linear(&f, name, parts[i].n_out, parts[i].n_in, 1);
        }
        for (size_t i = 0; i < 2; i++) {
            snprintf(name, sizeof name, "encoder.layer.%d.%s.weight", layer, norms[i]);
            tiny_tensor(&f, name, TINY_HIDDEN, 0, 1, 0.1f);
            snprintf(name, sizeof name, "encoder.layer.%d.%s.bias", layer, norms[i]);
            tiny_tensor(&f, name, TINY_HIDDEN, 0, 0, 0.1f);
        }
    }
    tiny_end(&f, dir, "model.safetensors");
    tiny_head(dir, "intent", "sequence", "[\"purchase\",\"price_inquiry\",\"return_refund\",\"greeting\"]", 4, 21);
    tiny_head(dir, "sentiment", "sequence", "[\"positive\",\"neutral\",\"negative\"]", 3, 22);
    tiny_head(dir, "entities", "token", "[\"O\",\"B-product\",\"I-product\",\"B-attribute\",\"I-attribute\"]", 5, 23);
    tiny_head(dir, "words", "token", "[\"B-n\",\"I-n\",\"B-v\",\"I-v\"]", 4, 24);
}

/* ---- the decoder ---- */

/* GPT-2's printable stand-in for a byte, as UTF-8. */
static void tiny_byte_piece(int byte, char out[4]) {
    int cp = byte, n = 0;
    if (!((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174)) {
        for (int b = 0; b < byte; b++)
            n += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
        cp = 256 + n;
    }
    if (cp < 0x80) {
        snprintf(out, 4, "%c", cp);
    } else {
        snprintf(out, 4, "%c%c", 0xC0 | cp >> 6, 0x80 | (cp & 0x3F));
    }
}

static void tiny_tokenizer(const char *dir) {
    FILE *f = tiny_open(dir, "tokenizer.json");
    fprintf(f, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    for (int i = 0; i < TINY_N_SPECIALS; i++)
        fprintf(f,
                "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                "\"normalized\":false,\"special\":true}",
                i ? "," : "", TINY_FIRST_SPECIAL + i, tiny_specials[i]);
    fprintf(f, "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
               "\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\","
               "\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},\"model\":{\"type\":\"BPE\","
               "\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
               "\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false,\"vocab\":{");
    for (int i = 0; i < TINY_FIRST_SPECIAL; i++) {
        char piece[4];
        tiny_byte_piece(i, piece);
        fprintf(f, "%s\"%s%s\":%d", i ? "," : "", *piece == '"' || *piece == '\\' ? "\\" : "", piece, i);
    }
    fprintf(f, "},\"merges\":[]}}");
    fclose(f);
}

static void tiny_decoder(const char *dir) {
    char name[96], text[1024];
    mkdir(dir, 0700);
    snprintf(text, sizeof text,
             "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\",\"vocab_size\":%d,\"hidden_size\":%d,"
             "\"intermediate_size\":%d,\"num_hidden_layers\":%d,\"num_attention_heads\":2,\"num_key_value_heads\":1,"
             "\"head_dim\":16,\"hidden_act\":\"silu\",\"max_position_embeddings\":%d,\"rms_norm_eps\":1e-6,"
             "\"rope_theta\":10000.0,\"tie_word_embeddings\":true,\"bos_token_id\":256,\"eos_token_id\":259}",
             TINY_DECODER_VOCAB, TINY_HIDDEN, TINY_INTERMEDIATE, TINY_LAYERS, TINY_CONTEXT);
    tiny_write(dir, "config.json", text);
    tiny_write(dir, "prompt.json",
               "{\"bos\":\"<|endoftext|>\",\"user\":\"<|user|>\",\"assistant\":\"<|assistant|>\",\"end\":\"<|end|>\","
               "\"intent\":{\"purchase\":\"<|intent:purchase|>\"},\"sentiment\":{},"
               "\"entity\":{\"product\":\"<|entity:product|>\"},"
               "\"earlier_turn\":[\"user\",\"text\",\"assistant\",\"reply\",\"end\"],"
               "\"present_turn\":[\"user\",\"text\",\"intent\",\"sentiment\",\"entities\",\"assistant\"],"
               "\"max_history_turns\":2,\"max_entities\":8,\"stop\":[\"<|end|>\"]}");
    tiny_tokenizer(dir);

    tiny_file f = tiny_begin(31);
    tiny_tensor(&f, "model.embed_tokens.weight", TINY_DECODER_VOCAB, TINY_HIDDEN, 0, 1);
    static const struct {
        const char *name;
        size_t n_out, n_in;
    } parts[] = {{"self_attn.q_proj", 32, TINY_HIDDEN},
                 {"self_attn.k_proj", 16, TINY_HIDDEN},
                 {"self_attn.v_proj", 16, TINY_HIDDEN},
                 {"self_attn.o_proj", TINY_HIDDEN, 32},
                 {"mlp.gate_proj", TINY_INTERMEDIATE, TINY_HIDDEN},
                 {"mlp.up_proj", TINY_INTERMEDIATE, TINY_HIDDEN},
                 {"mlp.down_proj", TINY_HIDDEN, TINY_INTERMEDIATE}};
    static const struct {
        const char *name;
        size_t n;
    } norms[] = {{"input_layernorm", TINY_HIDDEN},
                 {"post_attention_layernorm", TINY_HIDDEN},
                 {"self_attn.q_norm", 16},
                 {"self_attn.k_norm", 16}};
    for (int layer = 0; layer < TINY_LAYERS; layer++) {
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s", layer, parts[i].name);
            tiny_linear(&f, name, parts[i].n_out, parts[i].n_in, 0);
        }
        for (size_t i = 0; i < sizeof norms / sizeof *norms; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, norms[i].name);
            tiny_tensor(&f, name, norms[i].n, 0, 1, 0.1f);
        }
    }
    tiny_tensor(&f, "model.norm.weight", TINY_HIDDEN, 0, 1, 0.1f);
    tiny_end(&f, dir, "model.safetensors");
}

/* Makes DIR/encoder and DIR/decoder in a new folder and returns its path, which tiny_remove frees. */
static char *tiny_models(void) {
    char *dir = strdup("/tmp/kefu-tiny-XXXXXX"), path[512];
    if (!dir || !mkdtemp(dir)) perror("mkdtemp"), exit(1);
    snprintf(path, sizeof path, "%s/encoder", dir);
    tiny_encoder(path);
    snprintf(path, sizeof path, "%s/decoder", dir);
    tiny_decoder(path);
    return dir;
}

static void tiny_remove(char *dir) {
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (system(command) != 0) perror(command);
    free(dir);
}

#endif
