import { VIRTIO_F_INDIRECT_DESC, VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1 } from "../../spec/virtio.js";
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_GEOMETRY,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../../spec/virtio-blk.js";
import type { RecordingGuest } from "./guest.js";
import { cut } from "./scenarios-net.js";
import { PLACES, VirtioGuest } from "./virtio.js";

const BDF = 4 << 3;
export const DISK_SECTORS = 2048;
const SECTOR = 512;
const HEADER = 16;
const ID_BYTES = 20;
const REQUEST = PLACES.arena + 0x1_8000;
const TABLE = PLACES.arena + 0x1_4000;
const UNKNOWN = 99;
/** up to `unused1` behind `write_zeroes_may_unmap` */
const CONFIG_DWORDS = 14;

const FEATURES = [
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_GEOMETRY,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
];

/** Every kind of request on every queue, the ends of the disk, and the configuration. */
export const diskRequests = (guest: RecordingGuest, queues: number): void => {
  const card = new VirtioGuest(guest, BDF);
  card.place(false);
  card.start({
    legacy: false,
    accept: () => FEATURES,
    size: () => 64,
    queues,
    vectors: queues > 1 ? queues + 1 : 0,
    vectorOf: (queue) => queue + 1,
  });
  guest.note("configuration");
  for (let i = 0; i < CONFIG_DWORDS; i++) card.configRead(4 * i, 4);
  card.configRead(4 * CONFIG_DWORDS, 1);
  let queue = 0;
  const request = (title: string, type: number, sector: number, data: Buffer | number, withTable = false): void => {
    guest.note(`queue ${queue}: ${title}`);
    const header = Buffer.alloc(HEADER);
    header.writeUInt32LE(type, 0);
    header.writeUInt32LE(sector, 8);
    const isWrite = typeof data !== "number";
    const length = isWrite ? data.length : data;
    const body = isWrite ? data : Buffer.alloc(length, 0xee);
    guest.put(REQUEST, Buffer.concat([header, body, Uint8Array.of(0xee)]));
    const pieces = [
      ...cut(REQUEST, [HEADER], false),
      ...(length === 0 ? [] : cut(REQUEST + HEADER, [length], !isWrite)),
      ...cut(REQUEST + HEADER + length, [1], true),
    ];
    const ring = card.rings[queue]!;
    ring.add(pieces, withTable ? TABLE : 0);
    ring.publish();
    card.notify(queue);
    ring.takeAll();
    if (card.vectors > 0) card.messages();
    else card.isr();
    guest.get(REQUEST + HEADER, Math.min(length, 64) + (length === 0 ? 1 : 0));
    guest.get(REQUEST + HEADER + length, 1);
    queue = (queue + 1) % queues;
  };
  const range = (sector: number, sectors: number, flags = 0): Buffer => {
    const bytes = Buffer.alloc(HEADER);
    bytes.writeUInt32LE(sector, 0);
    bytes.writeUInt32LE(sectors, 8);
    bytes.writeUInt32LE(flags, 12);
    return bytes;
  };
  request("write two sectors at 3", VIRTIO_BLK_T_OUT, 3, Buffer.alloc(2 * SECTOR, 0x3c));
  request("read four sectors at 2", VIRTIO_BLK_T_IN, 2, 4 * SECTOR);
  request("read the last sector, with a table", VIRTIO_BLK_T_IN, DISK_SECTORS - 1, SECTOR, true);
  request("flush", VIRTIO_BLK_T_FLUSH, 0, 0);
  request("identify", VIRTIO_BLK_T_GET_ID, 0, ID_BYTES);
  request("discard sixteen sectors at 8", VIRTIO_BLK_T_DISCARD, 0, range(8, 16));
  request("write zeroes over eight sectors at 0", VIRTIO_BLK_T_WRITE_ZEROES, 0, range(0, 8));
  request("write zeroes with unmap", VIRTIO_BLK_T_WRITE_ZEROES, 0, range(64, 8, 1));
  request("read over the end", VIRTIO_BLK_T_IN, DISK_SECTORS - 1, 2 * SECTOR);
  request("write behind the end", VIRTIO_BLK_T_OUT, DISK_SECTORS, Buffer.alloc(SECTOR));
  request("discard over the end", VIRTIO_BLK_T_DISCARD, 0, range(DISK_SECTORS - 1, 2));
  request("an unknown request", UNKNOWN, 0, 0);
  guest.note("write cache off and on");
  for (const on of [0, 1]) {
    card.configWrite(32, 1, on);
    card.configRead(32, 1);
  }
  card.reset();
};
