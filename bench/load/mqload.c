/* An MQTT 3.1.1 load generator: one thread, raw non-blocking sockets, epoll.
 *
 *   mqload PORT MODE [name=value ...]
 *
 * Connects everything first and prints "ready"; starts at a line on stdin; prints the result as "name=value" pairs
 * when the load is over; keeps its connections until stdin ends. So whoever started it can read the broker's CPU time
 * and memory exactly around the load.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNACK = 2, PUBLISH = 3, PUBACK = 4, SUBACK = 9 };

typedef struct Conn {
    int fd, index, subscriber, accepted, suback;
    char *in, *out;
    size_t in_used, in_size, out_used, out_size, out_at;
    long sent, acked, got; /* PUBLISHes sent, PUBACKs received, PUBLISHes received */
    uint16_t pid;
} Conn;

static int port, epoll_fd;
static int publishers = 10, subscribers = 1, qos = 0, size = 64, window = 400, topics = 10, filters = 1, burst = 5;
static long messages = 100000;
static const char *publish_user = "node", *subscribe_user = "viewer";
static char *payload;

static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "mqload: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* -- bytes out -- */

static void flush(Conn *c) {
    while (c->out_at < c->out_used) {
        ssize_t n = write(c->fd, c->out + c->out_at, c->out_used - c->out_at);
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) die("connection %d: %s", c->index, strerror(errno));
        c->out_at += n;
    }
    c->out_at = c->out_used = 0;
}

static char *room(Conn *c, size_t size_) {
    if (c->out_used + size_ > c->out_size) {
        c->out_size = (c->out_used + size_) * 2;
        c->out = realloc(c->out, c->out_size);
    }
    return c->out + c->out_used;
}

static char *put_text(char *at, const char *text) {
    size_t n = strlen(text);
    *at++ = n >> 8;
    *at++ = n & 255;
    memcpy(at, text, n);
    return at + n;
}

static char *put_header(char *at, int first, size_t length) {
    *at++ = first;
    do {
        *at++ = (length & 127) | (length > 127 ? 128 : 0);
        length >>= 7;
    } while (length);
    return at;
}

static void put_connect(Conn *c, const char *id, const char *user) {
    char password[80];
    snprintf(password, sizeof password, "%s-password", user);
    char *at = room(c, 256), *start = at;
    at = put_header(at, 0x10, 10 + 2 + strlen(id) + 2 + strlen(user) + 2 + strlen(password));
    memcpy(at, "\0\4MQTT\4\xc2\2\x58", 10); /* clean, user name, password, 600 s */
    at = put_text(put_text(put_text(at + 10, id), user), password);
    c->out_used += at - start;
}

static uint16_t next_pid(Conn *c) { return ++c->pid ? c->pid : ++c->pid; }

/* Readings differ from one another, so every message does: no broker may profit from equal ones. */
static void stamp(char *at, unsigned long number) {
    for (int i = 0; i < 16; i++, number /= 10) at[i] = '0' + number % 10;
}

static void put_publish(Conn *c, const char *topic, int q, int retain, const char *body, size_t length) {
    size_t n = 2 + strlen(topic) + (q ? 2 : 0) + length;
    char *at = room(c, n + 5), *start = at;
    at = put_text(put_header(at, 0x30 | q << 1 | retain, n), topic);
    if (q) {
        uint16_t pid = next_pid(c);
        *at++ = pid >> 8;
        *at++ = pid & 255;
    }
    memcpy(at, body, length);
    if (length >= 32 && body == payload) stamp(at + 8, c->index * 1000003L + c->sent);
    c->out_used += at + length - start;
    c->sent++;
}

static void put_subscribe(Conn *c, char (*names)[80], int count, int q) {
    size_t n = 2;
    for (int i = 0; i < count; i++) n += 3 + strlen(names[i]);
    char *at = room(c, n + 5), *start = at;
    at = put_header(at, 0x82, n);
    *at++ = 0;
    *at++ = 1;
    for (int i = 0; i < count; i++) {
        at = put_text(at, names[i]);
        *at++ = q;
    }
    c->out_used += at - start;
    flush(c);
}

static void put_puback(Conn *c, const unsigned char *pid) {
    char *at = room(c, 4);
    at[0] = 0x40;
    at[1] = 2;
    at[2] = pid[0];
    at[3] = pid[1];
    c->out_used += 4;
}

/* -- bytes in -- */

typedef void (*OnMessage)(Conn *, const unsigned char *body, size_t length);

static void handle(Conn *c, int first, unsigned char *body, size_t length, OnMessage on_message) {
    switch (first >> 4) {
    case CONNACK:
        if (body[1]) die("connection %d refused with %d", c->index, body[1]);
        c->accepted = 1;
        break;
    case PUBACK:
        c->acked++;
        break;
    case SUBACK:
        for (size_t i = 2; i < length; i++)
            if (body[i] > 2) die("connection %d may not subscribe", c->index);
        c->suback = 1;
        break;
    case PUBLISH: {
        size_t topic = body[0] << 8 | body[1], at = 2 + topic;
        c->got++;
        if (first & 6) {
            put_puback(c, body + at);
            at += 2;
        }
        if (on_message) on_message(c, body + at, length - at);
    }
    }
}

static void parse(Conn *c, OnMessage on_message) {
    size_t at = 0;
    while (c->in_used - at >= 2) {
        size_t length = 0, p = at + 1;
        int shift = 0, done = 0;
        while (p < c->in_used && shift < 28 && !done) {
            length |= (size_t)(c->in[p] & 127) << shift;
            done = !(c->in[p++] & 128);
            shift += 7;
        }
        if (!done || c->in_used - p < length) break;
        handle(c, (unsigned char)c->in[at], (unsigned char *)c->in + p, length, on_message);
        at = p + length;
    }
    memmove(c->in, c->in + at, c->in_used - at);
    c->in_used -= at;
    flush(c);
}

static void receive(Conn *c, OnMessage on_message) {
    if (c->in_size - c->in_used < 65536) c->in = realloc(c->in, c->in_size += c->in_size + 65536);
    for (;;) { /* edge-triggered: read until there is no more */
        size_t asked = c->in_size - c->in_used;
        ssize_t n = read(c->fd, c->in + c->in_used, asked);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) die("connection %d closed by the broker: %s", c->index, n ? strerror(errno) : "end of stream");
        c->in_used += n;
        parse(c, on_message);
        if ((size_t)n < asked) return;
    }
}

/* Wait at most `patience` seconds and handle what came. */
static int turn(double patience, OnMessage on_message) {
    struct epoll_event events[256];
    int n = epoll_wait(epoll_fd, events, 256, patience * 1000);
    for (int i = 0; i < n; i++) {
        Conn *c = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) flush(c);
        if (events[i].events & ~EPOLLOUT) receive(c, on_message);
    }
    return n;
}

/* -- connections -- */

static Conn *dial(int index) {
    Conn *c = calloc(1, sizeof *c);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    c->index = index;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to)) die("connect: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
    return c;
}

static void hang_up(Conn *c) {
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static Conn *open_client(int index, const char *id, const char *user) {
    Conn *c = dial(index);
    put_connect(c, id, user);
    flush(c);
    double until = now() + 30;
    while (!c->accepted) {
        if (now() > until) die("no CONNACK for %s", id);
        receive(c, NULL);
        if (!c->accepted) turn(0.05, NULL);
    }
    return c;
}

static void subscribe_and_wait(Conn *c, char (*names)[80], int count, int q) {
    put_subscribe(c, names, count, q);
    for (double until = now() + 30; !c->suback; turn(0.05, NULL))
        if (now() > until) die("no SUBACK");
}

static void ready(void) {
    char line[16];
    printf("ready\n");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) exit(0);
}

static void stay(void) {
    char line[16];
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) continue;
}

/* -- loads -- */

static void node_topic(char *out, int node, int number) {
    snprintf(out, 80, "callboard/n%d/state/sensor/t%d", node, number);
}

static long delivered;
static void count(Conn *c, const unsigned char *body, size_t length) {
    (void)c, (void)body, (void)length;
    delivered++;
}

/* Many to one, one to many, or many to a crowd of wildcards; `window` messages may be under way per publisher. */
static void throughput(void) {
    Conn *pubs[publishers], *subs[subscribers];
    char id[80], (*names)[80] = calloc(filters, 80);
    char(*topic)[80] = calloc((size_t)publishers * topics, 80);
    for (int i = 0; i < subscribers; i++) {
        snprintf(id, sizeof id, "s%d", i);
        subs[i] = open_client(i, id, subscribe_user);
        for (int f = 0; f < filters; f++) {
            if (filters > 1) snprintf(names[f], 80, "callboard/+/state/sensor/t%d", i * filters + f);
            else strcpy(names[f], "callboard/+/state/#");
        }
        subscribe_and_wait(subs[i], names, filters, qos);
    }
    for (int i = 0; i < publishers; i++) {
        snprintf(id, sizeof id, "n%d", i);
        pubs[i] = open_client(i, id, publish_user);
        for (int t = 0; t < topics; t++) 
            /* neighbours in the stream go to different subscribers */
            node_topic(topic[i * topics + t], i, filters > 1 ? t * 37 % topics * topics + i : t);
    }
    int copies = filters > 1 ? 1 : subscribers;
    long each = messages / publishers, total = each * publishers * copies;
    ready();
    double began = now(), idle_since = began;
    while (delivered < total) {
        long before = delivered;
        for (int i = 0; i < publishers; i++) {
            Conn *c = pubs[i];
            /* QoS 0 has no acknowledgements: what the subscribers have is the measure of what is under way. */
            long done = qos ? c->acked : delivered / copies / publishers;
            if (qos && c->sent - delivered / copies / publishers > 4 * window) continue;
            for (int n = 0; c->sent < each && c->sent - done < window; n++)
                put_publish(c, topic[i * topics + c->sent % topics], qos, 0, payload, size);
            flush(c);
        }
        turn(0.1, count);
        if (delivered > before) idle_since = now();
        if (now() - idle_since > 20) die("stalled after %ld of %ld deliveries", delivered, total);
    }
    while (qos) { /* every PUBACK belongs to the load */
        long acked = 0;
        for (int i = 0; i < publishers; i++) acked += pubs[i]->acked;
        if (acked == each * publishers) break;
        turn(0.1, count);
        if (now() - idle_since > 40) die("stalled with %ld PUBACKs", acked);
    }
    printf("messages=%ld deliveries=%ld seconds=%.6f\n", each * publishers, total, now() - began);
    stay();
}

/* Each publisher sends a small burst and waits until that very burst has reached the subscriber. */
static int *burst_left;
static void burst_arrived(Conn *c, const unsigned char *body, size_t length) {
    (void)c, (void)length;
    burst_left[body[0]]--;
    delivered++;
}

static void bursts(void) {
    Conn *pubs[publishers];
    char id[80], name[1][80] = {"callboard/+/state/#"}, topic[publishers][80];
    burst_left = calloc(256, sizeof *burst_left);
    subscribe_and_wait(open_client(0, "s0", subscribe_user), name, 1, 0);
    for (int i = 0; i < publishers; i++) {
        snprintf(id, sizeof id, "n%d", i);
        pubs[i] = open_client(i, id, publish_user);
        node_topic(topic[i], i, 0);
    }
    long each = messages / publishers / burst * burst, total = each * publishers;
    ready();
    double began = now();
    while (delivered < total) {
        for (int i = 0; i < publishers; i++) {
            if (burst_left[i] || pubs[i]->sent >= each) continue;
            payload[0] = i;
            for (int n = 0; n < burst; n++) put_publish(pubs[i], topic[i], 0, 0, payload, size);
            burst_left[i] = burst;
            flush(pubs[i]);
        }
        if (!turn(20, burst_arrived)) die("stalled after %ld of %ld", delivered, total);
    }
    printf("messages=%ld deliveries=%ld seconds=%.6f\n", total, total, now() - began);
    stay();
}

/* A request at a time, answered at once by the other client; QoS 1 both ways like Callboard's commands. */
static Conn *asker, *answerer;
static int answered;
static void request_or_answer(Conn *c, const unsigned char *body, size_t length) {
    if (c == answerer) put_publish(c, "callboard/asker/reply", 1, 0, (const char *)body, length);
    else answered = 1;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Percentiles of one block of requests each, and of those the median: one stall of the machine must not decide. */
enum { BLOCK = 500 };

static double middle_of_blocks(const double *took, long count, int percent) {
    long blocks = count / BLOCK;
    double sorted[BLOCK], *found = calloc(blocks + 1, sizeof *found);
    if (!blocks) die("at least %d messages", BLOCK);
    for (long b = 0; b < blocks; b++) {
        memcpy(sorted, took + b * BLOCK, sizeof sorted);
        qsort(sorted, BLOCK, sizeof *sorted, by_value);
        found[b] = sorted[BLOCK * percent / 100];
    }
    qsort(found, blocks, sizeof *found, by_value);
    return found[blocks / 2];
}

static void round_trips(void) {
    char request[1][80] = {"callboard/n0/command/#"}, reply[1][80] = {"callboard/asker/reply"};
    double *took = calloc(messages, sizeof *took), began;
    answerer = open_client(0, "n0", "node");
    subscribe_and_wait(answerer, request, 1, 1);
    asker = open_client(1, "asker", "operator");
    subscribe_and_wait(asker, reply, 1, 1);
    ready();
    double first = now();
    for (long i = 0; i < messages; i++) {
        answered = 0;
        began = now();
        put_publish(asker, "callboard/n0/command/action/x", 1, 0, payload, size);
        flush(asker);
        while (!answered)
            if (!turn(20, request_or_answer)) die("no answer to request %ld", i);
        took[i] = now() - began;
    }
    double seconds = now() - first;
    printf("messages=%ld seconds=%.6f p50=%.9f p99=%.9f\n", messages, seconds, middle_of_blocks(took, messages, 50),
           middle_of_blocks(took, messages, 99));
    stay();
}

/* Clients that log in with a password and leave, `window` at a time. */
static void connects(void) {
    Conn *live[window];
    char id[80];
    long started = 0, done = 0;
    memset(live, 0, sizeof live);
    hang_up(open_client(0, "warm", subscribe_user)); /* the first log-in checks the slow hash */
    ready();
    double began = now();
    while (done < messages) {
        for (int i = 0; i < window; i++) {
            if (live[i] && live[i]->accepted) {
                memcpy(room(live[i], 2), "\xe0\0", 2);
                live[i]->out_used += 2;
                flush(live[i]);
                hang_up(live[i]);
                live[i] = NULL;
                done++;
            }
            if (!live[i] && started < messages) {
                snprintf(id, sizeof id, "c%ld", started++);
                live[i] = dial(i);
                put_connect(live[i], id, subscribe_user);
                flush(live[i]);
            }
        }
        if (done < messages && !turn(20, NULL)) die("stalled after %ld connections", done);
    }
    printf("messages=%ld seconds=%.6f\n", done, now() - began);
    stay();
}

/* How long a new subscriber waits for everything that is retained: the median of several, one after the other. */
static void retained(void) {
    char topic[80], all[1][80] = {"callboard/+/announce/#"};
    Conn *c = open_client(0, "board", "board");
    for (long i = 0; i < messages; i++) {
        snprintf(topic, sizeof topic, "callboard/n%ld/announce/sensor/t%ld", i / 20, i % 20);
        put_publish(c, topic, 1, 1, payload, size);
        flush(c);
        while (c->sent - c->acked >= 200)
            if (!turn(20, NULL)) die("stalled after %ld PUBACKs", c->acked);
    }
    while (c->acked < messages)
        if (!turn(20, NULL)) die("stalled after %ld PUBACKs", c->acked);
    enum { READERS = 7 };
    Conn *reader[READERS];
    double took[READERS];
    for (int i = 0; i < READERS; i++) {
        snprintf(topic, sizeof topic, "s%d", i);
        reader[i] = open_client(1 + i, topic, subscribe_user);
    }
    ready();
    for (int i = 0; i < READERS; i++) {
        double began = now();
        put_subscribe(reader[i], all, 1, 1);
        while (reader[i]->got < messages)
            if (!turn(20, NULL)) die("stalled after %ld retained messages", reader[i]->got);
        took[i] = now() - began;
        while (turn(0.05, NULL)) continue; /* the acknowledgements of this one are not the next one's load */
    }
    qsort(took, READERS, sizeof *took, by_value);
    printf("messages=%ld seconds=%.6f\n", messages, took[READERS / 2]);
    stay();
}

/* Connections that do nothing; the memory they cost is read from outside. */
static void idle(void) {
    char id[80];
    hang_up(open_client(0, "warm", subscribe_user));
    ready();
    for (long i = 0; i < messages; i++) {
        snprintf(id, sizeof id, "idle%ld", i);
        open_client(i, id, subscribe_user);
    }
    printf("messages=%ld\n", messages);
    stay();
}

static void option(char *text) {
    static const struct { const char *name; int *value; } numbers[] = {
        {"publishers", &publishers}, {"subscribers", &subscribers}, {"qos", &qos},         {"size", &size},
        {"window", &window},         {"topics", &topics},           {"filters", &filters}, {"burst", &burst},
    };
    char *value = strchr(text, '=');
    if (!value) die("expected name=value, not %s", text);
    *value++ = 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(text, numbers[i].name)) *numbers[i].value = atoi(value), value = NULL;
    if (!value) return;
    if (!strcmp(text, "messages")) messages = atol(value);
    else if (!strcmp(text, "publish_user")) publish_user = value;
    else if (!strcmp(text, "subscribe_user")) subscribe_user = value;
    else die("unknown option %s", text);
}

int main(int argc, char **argv) {
    if (argc < 3) die("usage: mqload PORT MODE [name=value ...]");
    port = atoi(argv[1]);
    for (int i = 3; i < argc; i++) option(argv[i]);
    payload = malloc(size);
    memset(payload, 'x', size);
    epoll_fd = epoll_create1(0);
    const char *mode = argv[2];
    if (!strcmp(mode, "throughput")) throughput();
    else if (!strcmp(mode, "bursts")) bursts();
    else if (!strcmp(mode, "round_trips")) round_trips();
    else if (!strcmp(mode, "connects")) connects();
    else if (!strcmp(mode, "retained")) retained();
    else if (!strcmp(mode, "idle")) idle();
    else die("unknown mode %s", mode);
    return 0;
}
