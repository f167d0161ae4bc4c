#include <pthread.h>
#include <stdlib.h>

#include "rooms.h"

typedef struct {
    void *memory;
    size_t size;
} Room;

typedef struct Rooms {
    Room room[ROOMS];
    struct Rooms *next;
} Rooms;

static pthread_key_t rooms_key;
static pthread_mutex_t rooms_lock = PTHREAD_MUTEX_INITIALIZER;
static Rooms *left_behind;

static void leave_rooms(void *rooms) {
    pthread_mutex_lock(&rooms_lock);
    ((Rooms *)rooms)->next = left_behind;
    left_behind = rooms;
    pthread_mutex_unlock(&rooms_lock);
}

static Rooms *take_rooms(void) {
    pthread_mutex_lock(&rooms_lock);
    Rooms *rooms = left_behind;
    if (rooms)
        left_behind = rooms->next;
    pthread_mutex_unlock(&rooms_lock);
    if (!rooms)
        rooms = calloc(1, sizeof *rooms);
    if (rooms && pthread_setspecific(rooms_key, rooms)) {
        leave_rooms(rooms);
        return NULL;
    }
    return rooms;
}

void *room_for(int which, size_t wanted) {
    Rooms *rooms = pthread_getspecific(rooms_key);
    if (!rooms && !(rooms = take_rooms()))
        return NULL;
    Room *room = &rooms->room[which];
    if (!room->memory || room->size < wanted) {
        free(room->memory);
        room->size = ((wanted ? wanted : 1) + 4095) & ~(size_t)4095;
        room->memory = aligned_alloc(64, room->size);
        if (!room->memory)
            room->size = 0;
    }
    return room->memory;
}

int open_rooms(void) { return !pthread_key_create(&rooms_key, leave_rooms); }
