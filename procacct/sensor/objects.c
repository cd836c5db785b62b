/* The loaded objects: path, build id and signature of each, from the memory of the process.
 *
 * Notes (elf(5)): sizes of name and descriptor, type, then both padded to 4, or to 8 where the segment is aligned to 8. A program has several
 * segments of notes. Only what lies within a readable loaded segment of the same object is looked at.
 */
#include "sensor.h"
#include "system.h"

#include <link.h>
#include <string.h>

enum { NOTE_BUILD_ID = 3, NOTE_OURS = 0x42434154, NOTE_SENSOR = 0x42434155, NOTE_OGRT = 0x4F475254, NOTE_XALT = 0x746c6158 };
enum { UUID_LENGTH = 36, OBJECT_PATH_MOST = 4096, AFTER_OBJECTS = 256 };

/* By it a sensor knows another copy of itself, preloaded from another file. */
__attribute__((section(".note.batchacct.sensor"), used, aligned(4))) static const struct {
  uint32_t name_length, length, type;
  char name[12];
  uint32_t version;
} SENSOR_NOTE = {10, 4, NOTE_SENSOR, "BATCHACCT", 1};

struct note {
  uint32_t type;
  const char *name;
  size_t name_length;
  const unsigned char *descriptor;
  size_t length;
};

struct found {
  const unsigned char *build_id;
  size_t build_id_length;
  const unsigned char *signature;
  unsigned rank;  /* of the note the signature is from: ours before OGRT's before XALT's */
  bool is_sensor;
  bool is_this;
};

struct walk {
  struct objects *objects;
  struct datagram *datagram;
  size_t seen;
  bool this_seen;
  bool of_program;
};

static bool is_named(const struct note *note, const char *name) {
  size_t length = strlen(name) + 1;
  return note->name_length == length && memcmp(note->name, name, length) == 0;
}

static bool is_uuid(const unsigned char *text) {
  for (size_t i = 0; i < UUID_LENGTH; i++) {
    unsigned char c = text[i];
    bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    if (dash ? c != '-' : !hex)
      return false;
  }
  return true;
}

static void take_signature(struct found *found, const unsigned char *text, size_t left, unsigned rank) {
  if (left >= UUID_LENGTH && (!found->signature || rank < found->rank) && is_uuid(text)) {
    found->signature = text;
    found->rank = rank;
  }
}

static void take_xalt(struct found *found, const struct note *note) {
  static const char key[] = "<Build_UUID>%%";
  const size_t length = sizeof key - 1;
  for (size_t at = 0; at + length + UUID_LENGTH <= note->length; at++)
    if (memcmp(note->descriptor + at, key, length) == 0 || memcmp(note->descriptor + at, key + 1, length - 1) == 0) {
      size_t begin = at + (note->descriptor[at] == '<' ? length : length - 1);
      take_signature(found, note->descriptor + begin, note->length - begin, 3);
    }
}

static void take(struct found *found, const struct note *note) {
  if (note->type == NOTE_BUILD_ID && is_named(note, "GNU") && !found->build_id && note->length <= sizeof((struct objects *)0)->build_id) {
    found->build_id = note->descriptor;
    found->build_id_length = note->length;
  } else if (note->type == NOTE_OURS && is_named(note, "BATCHACCT")) {
    take_signature(found, note->descriptor, note->length, 1);
  } else if (note->type == NOTE_OGRT && is_named(note, "OGRT") && note->length > 1) {
    take_signature(found, note->descriptor + 1, note->length - 1, 2);
  } else if (note->type == NOTE_XALT && is_named(note, "XALT")) {
    take_xalt(found, note);
  } else if (note->type == NOTE_SENSOR && is_named(note, "BATCHACCT")) {
    found->is_sensor = true;
    found->is_this |= note->name == SENSOR_NOTE.name;
  }
}

/* Whether names that end with NUL, and descriptors, padded so, fill the segment to its end. */
static bool comes_out_even(const unsigned char *at, size_t size, size_t mask) {
  while (size >= 12) {
    uint32_t head[3];
    memcpy(head, at, sizeof head);
    if (head[0] == 0 || head[0] > size - 12 || at[12 + head[0] - 1] != 0)
      return false;
    size_t descriptor = (12 + head[0] + mask) & ~mask;
    if (descriptor > size || head[1] > size - descriptor)
      return false;
    size_t end = (descriptor + head[1] + mask) & ~mask;
    if (end >= size)
      return true;
    at += end;
    size -= end;
  }
  return size == 0;
}

/* The linker mold puts notes padded to 4 into one segment aligned to 8. */
static void walk_notes(struct found *found, const unsigned char *at, size_t size, size_t align) {
  const size_t mask = align == 8 && comes_out_even(at, size, 7) ? 7 : 3;
  while (size >= 12) {
    uint32_t head[3];
    memcpy(head, at, sizeof head);
    size_t left = size - 12;
    if (head[0] > left)
      return;
    size_t descriptor = (12 + head[0] + mask) & ~mask;
    if (descriptor > size || head[1] > size - descriptor)
      return;
    const struct note note = {head[2], (const char *)at + 12, head[0], at + descriptor, head[1]};
    take(found, &note);
    size_t end = (descriptor + head[1] + mask) & ~mask;
    if (end >= size)
      return;
    at += end;
    size -= end;
  }
}

static bool is_loaded(const struct dl_phdr_info *info, ElfW(Addr) address, size_t size) {
  for (ElfW(Half) i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
    if (segment->p_type == PT_LOAD && segment->p_flags & PF_R && address >= segment->p_vaddr && size <= segment->p_filesz &&
        address - segment->p_vaddr <= segment->p_filesz - size)
      return true;
  }
  return false;
}

static void look_at_notes(struct found *found, const struct dl_phdr_info *info) {
  memset(found, 0, sizeof *found);
  for (ElfW(Half) i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
    if (segment->p_type == PT_NOTE && is_loaded(info, segment->p_vaddr, segment->p_memsz))
      walk_notes(found, (const unsigned char *)(info->dlpi_addr + segment->p_vaddr), segment->p_memsz, segment->p_align);
  }
}

static void keep_of_program(struct objects *objects, const struct found *found) {
  objects->build_id_length = (unsigned char)found->build_id_length;
  memcpy(objects->build_id, found->build_id ? found->build_id : objects->build_id, found->build_id_length);
  objects->signature_length = found->signature ? UUID_LENGTH : 0;
  if (found->signature)
    memcpy(objects->signature, found->signature, UUID_LENGTH);
}

/* The working folder and a slash, for an object that was named relative to it; it may have been another when it was loaded. */
static size_t add_folder(struct datagram *datagram) {
  unsigned char *at = datagram->bytes + datagram->used;
  size_t left = datagram->item_most - datagram->used;
  long size = left > OBJECT_PATH_MOST ? SYSTEM_CALL(SYS_getcwd, at, (size_t)OBJECT_PATH_MOST) : -1;
  if (size < 2 || size > OBJECT_PATH_MOST || at[0] != '/')
    return 0;
  at[size - 1] = '/';
  datagram->used += (size_t)size;
  return (size_t)size;
}

static void add_object(struct datagram *datagram, const char *path, const struct found *found) {
  const size_t begin = datagram->used;
  const size_t own_length = strlen(path);
  const unsigned char head[4] = {0, 0, (unsigned char)found->build_id_length, found->signature ? UUID_LENGTH : 0};
  size_t length = own_length;
  bool whole = length <= OBJECT_PATH_MOST && item_add(datagram, head, sizeof head);
  if (whole && *path != '/')
    length += add_folder(datagram);
  whole = whole && item_add(datagram, path, own_length) && item_add(datagram, found->build_id, found->build_id_length) &&
          item_add(datagram, found->signature, head[3]);
  if (whole) {
    const uint16_t path_length = (uint16_t)length;
    memcpy(datagram->bytes + begin, &path_length, sizeof path_length);
  } else {
    datagram->used = begin;
    datagram->header.flags |= FLAG_OBJECTS_CUT;
  }
}

/* The loader's lock is held: nothing is waited for here. */
static int look_at_one(struct dl_phdr_info *info, size_t size, void *context) {
  struct walk *walk = context;
  struct found found;
  (void)size;
  walk->objects->loads = info->dlpi_adds;
  walk->objects->unloads = info->dlpi_subs;
  look_at_notes(&found, info);
  if (walk->seen++ == 0) {
    if (walk->of_program)
      keep_of_program(walk->objects, &found);
    return 0;
  }
  walk->objects->other_sensor |= found.is_sensor && !found.is_this && !walk->this_seen;
  walk->this_seen |= found.is_this;
  if (found.is_this || !info->dlpi_name || !strchr(info->dlpi_name, '/'))  /* the vDSO has a name and no file */
    return 0;
  walk->objects->seals_itself |= strstr(info->dlpi_name, "/libseccomp.so") != NULL;
  if (walk->datagram)
    add_object(walk->datagram, info->dlpi_name, &found);
  return 0;
}

void look_at_objects(struct objects *objects, struct datagram *datagram, bool of_program) {
  struct walk walk = {objects, datagram, 0, false, of_program};
  if (datagram)
    item_begin(datagram, TAG_OBJECTS, datagram->size - datagram->used - AFTER_OBJECTS);
  dl_iterate_phdr(look_at_one, &walk);
  if (datagram)
    item_end(datagram);
}

static int compare_counts(struct dl_phdr_info *info, size_t size, void *context) {
  const struct objects *objects = context;
  (void)size;
  return info->dlpi_adds == objects->loads && info->dlpi_subs == objects->unloads ? 1 : 2;
}

bool objects_changed(const struct objects *objects) {
  return dl_iterate_phdr(compare_counts, (void *)objects) == 2;
}
