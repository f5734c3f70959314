import { defineRegisters } from "../regs/index.js";

/** Names and numbers of the input device, VIRTIO 1.3 §5.8; event types and codes are Linux's (input-event-codes.h). */

// ------------------------------------------------------------------------------------------------ queues, §5.8.2

export const VIRTIO_INPUT_EVENTQ = 0;
export const VIRTIO_INPUT_STATUSQ = 1;

// ------------------------------------------------------------------------------------------------ device configuration, §5.8.4

/** Bytes of what is selected. */
export const VIRTIO_INPUT_CFG_DATA_SIZE = 128;

/** struct virtio_input_config; what was selected follows from `u` on. */
export const VIRTIO_INPUT_CONFIG = defineRegisters(
  { name: "virtio_input_config", source: "VIRTIO 1.3 §5.8.4", size: 12 },
  {
    select: { at: 0, width: 1, rw: 0xff, doc: "what is to be shown" },
    subsel: { at: 1, width: 1, rw: 0xff, doc: "which of it, such as the type of events" },
    size: { at: 2, width: 1, doc: "bytes of what is shown; 0: there is no such thing" },
    u: { at: 8, width: 4, doc: "what is shown: a string, a bitmap, or numbers; up to 128 bytes" },
  },
);

export const VIRTIO_INPUT_CFG_UNSET = 0x00;
export const VIRTIO_INPUT_CFG_ID_NAME = 0x01;
export const VIRTIO_INPUT_CFG_ID_SERIAL = 0x02;
export const VIRTIO_INPUT_CFG_ID_DEVIDS = 0x03;
export const VIRTIO_INPUT_CFG_PROP_BITS = 0x10;
export const VIRTIO_INPUT_CFG_EV_BITS = 0x11;
export const VIRTIO_INPUT_CFG_ABS_INFO = 0x12;

// ------------------------------------------------------------------------------------------------ events, §5.8.6

/** Bytes of struct virtio_input_event: type, code, value. */
export const VIRTIO_INPUT_EVENT_SIZE = 8;

export const EV_SYN = 0x00;
export const EV_KEY = 0x01;
export const EV_REL = 0x02;

export const SYN_REPORT = 0;

export const REL_X = 0x00;
export const REL_Y = 0x01;
export const REL_WHEEL = 0x08;

export const BTN_LEFT = 0x110;
export const BTN_RIGHT = 0x111;
export const BTN_MIDDLE = 0x112;
export const BTN_SIDE = 0x113;
export const BTN_EXTRA = 0x114;
export const BTN_GEAR_DOWN = 0x150;
export const BTN_GEAR_UP = 0x151;
