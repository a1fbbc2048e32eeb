#include "base/constant_time.h"
#include "token/internal.h"
#include "token/public_key.h"

/*
 * What tokens say of wrong padding besides CKR_ENCRYPTED_DATA_INVALID and _LEN_RANGE (PKCS#11
 * v2.40 5.9). SoftHSM 2.6.1: CKR_GENERAL_ERROR (SoftHSM.cpp, AsymDecrypt).
 */
static const CK_RV padding_errors[] = {
    CKR_ENCRYPTED_DATA_INVALID, CKR_ENCRYPTED_DATA_LEN_RANGE, CKR_DATA_INVALID, CKR_DATA_LEN_RANGE,
    CKR_GENERAL_ERROR,          CKR_FUNCTION_FAILED,
};

struct decryption {
    const struct token_ciphertext *ciphertext;
    CK_MECHANISM mechanism;
    uint8_t *block;
    CK_ULONG size;  /* of what the token gave */
    uint32_t right; /* a mask: it has not said that the padding is wrong */
};

static bool is_padding_error(CK_RV rv)
{
    for (size_t i = 0; i < ARRAY_SIZE(padding_errors); i++) {
        if (padding_errors[i] == rv)
            return true;
    }
    return false;
}

static CK_RV decrypt_in(const struct token_session *session, void *context, bool *started)
{
    struct decryption *decryption = context;
    const struct token_ciphertext *ciphertext = decryption->ciphertext;
    CK_FUNCTION_LIST *functions = session->functions;
    CK_RV rv = functions->C_DecryptInit(session->handle, &decryption->mechanism, ciphertext->key);
    if (rv != CKR_OK)
        return rv;
    *started = true;
    decryption->size = ciphertext->size;
    return functions->C_Decrypt(session->handle, unconst(ciphertext->bytes), ciphertext->size,
                                decryption->block, &decryption->size);
}

static enum token_error decrypt(struct token *token, session_call *call,
                                struct decryption *decryption, uint64_t deadline,
                                struct problem *problem)
{
    size_t size = decryption->ciphertext->size;
    if (size < RSA_BITS_MIN / 8 || size > RSA_BLOCK_SIZE_MAX)
        return problem_set(problem, TOKEN_UNSUPPORTED, "token %s: no RSA ciphertext has %zu bytes",
                           token->name, size);
    memset(decryption->block, 0, size);
    enum token_error error =
        session_pool_call(token, deadline, call, decryption, "decrypting", problem);
    if (error == TOKEN_OK && decryption->size > size)
        return problem_set(problem, TOKEN_FAILED, "token %s: gave more than %zu bytes", token->name,
                           size);
    return error;
}

enum token_error token_decrypt_raw(struct token *token, const struct token_ciphertext *ciphertext,
                                   uint64_t deadline, uint8_t block[RSA_BLOCK_SIZE_MAX],
                                   struct problem *problem)
{
    struct decryption decryption = {
        .ciphertext = ciphertext, .mechanism = {CKM_RSA_X_509, NULL, 0}, .block = block};
    enum token_error error = decrypt(token, decrypt_in, &decryption, deadline, problem);
    /* It is as long as the modulus (PKCS#11 v2.40 2.1.8); should a token leave out zeros. */
    if (error == TOKEN_OK)
        constant_time_move_right(block, ciphertext->size,
                                 (uint32_t)(ciphertext->size - decryption.size));
    return error;
}

/* --- Where the token removes the padding ----------------------------------------------------- */

static CK_RV decrypt_pkcs1_in(const struct token_session *session, void *context, bool *started)
{
    struct decryption *decryption = context;
    CK_RV rv = decrypt_in(session, context, started);
    bool wrong = *started && is_padding_error(rv);
    decryption->right = ~mask_equal(wrong, 1);
    if (wrong)
        decryption->size = 0; /* whatever the module left there: it must not tell wrong padding */
    return wrong ? CKR_OK : rv;
}

/* Turns the message, `size` bytes (secret) at the block's start, into a padded block again. */
static void pad_again(uint8_t *block, uint32_t block_size, uint32_t size, uint32_t right)
{
    right &= mask_less(size, block_size - (PKCS1_OVERHEAD - 1));
    size &= right;
    for (uint32_t i = 0; i < block_size; i++)
        block[i] &= (uint8_t)mask_less(i, size);
    constant_time_move_right(block, block_size, block_size - size);
    block[1] = 2 & (uint8_t)right;
    for (uint32_t i = 2; i < block_size; i++)
        block[i] |= (uint8_t)(right & mask_less(i, block_size - size - 1));
}

enum token_error token_decrypt_pkcs1(struct token *token, const struct token_ciphertext *ciphertext,
                                     uint64_t deadline, uint8_t block[RSA_BLOCK_SIZE_MAX],
                                     struct problem *problem)
{
    struct decryption decryption = {
        .ciphertext = ciphertext, .mechanism = {CKM_RSA_PKCS, NULL, 0}, .block = block};
    enum token_error error = decrypt(token, decrypt_pkcs1_in, &decryption, deadline, problem);
    if (error == TOKEN_OK)
        pad_again(block, (uint32_t)ciphertext->size, (uint32_t)decryption.size, decryption.right);
    return error;
}
