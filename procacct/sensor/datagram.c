/* Builds a datagram in the memory it is given: a header of 64 bytes, then items of tag, length, bytes, each padded to 4. */
#include "sensor.h"

#include <string.h>

enum { MAGIC = 0x50414342, VERSION = 1, ITEM_HEAD = 8 };

_Static_assert(sizeof(struct header) == 64, "the header has 64 bytes");

void datagram_begin(struct datagram *datagram, unsigned char *bytes, size_t size, enum kind kind) {
  memset(&datagram->header, 0, sizeof datagram->header);
  datagram->header.magic = MAGIC;
  datagram->header.version = VERSION;
  datagram->header.kind = (uint8_t)kind;
  datagram->header.weight = 1;
  datagram->bytes = bytes;
  datagram->size = size & ~(size_t)3;
  datagram->used = sizeof(struct header);
  datagram->item = datagram->item_most = datagram->used;
}

void item_begin(struct datagram *datagram, enum tag tag, size_t most) {
  const uint16_t head[2] = {(uint16_t)tag, 0};
  size_t begin = datagram->used + ITEM_HEAD;
  datagram->item = datagram->used;
  datagram->item_most = datagram->item;
  if (begin > datagram->size)
    return;
  memcpy(datagram->bytes + datagram->item, head, sizeof head);
  datagram->used = begin;
  datagram->item_most = most < datagram->size - begin ? begin + most : datagram->size;
}

bool item_add(struct datagram *datagram, const void *bytes, size_t length) {
  if (datagram->used > datagram->item_most || length > datagram->item_most - datagram->used)
    return false;
  if (length)
    memcpy(datagram->bytes + datagram->used, bytes, length);
  datagram->used += length;
  return true;
}

bool item_add_text(struct datagram *datagram, const char *text, size_t length) {
  size_t left = datagram->item_most > datagram->used ? datagram->item_most - datagram->used - 1 : 0;
  size_t taken = length < left ? length : left;
  return item_add(datagram, text, taken) && taken == length;
}

size_t item_length(const struct datagram *datagram) {
  return datagram->used > datagram->item ? datagram->used - datagram->item - ITEM_HEAD : 0;
}

void item_end(struct datagram *datagram) {
  uint32_t length = (uint32_t)item_length(datagram);
  if (length == 0) {
    datagram->used = datagram->item;
    return;
  }
  memcpy(datagram->bytes + datagram->item + 4, &length, sizeof length);
  while (datagram->used % 4)
    datagram->bytes[datagram->used++] = 0;
}

void datagram_end(struct datagram *datagram) {
  datagram->header.length = (uint32_t)datagram->used;
  memcpy(datagram->bytes, &datagram->header, sizeof datagram->header);
}
