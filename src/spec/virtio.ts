import { defineRegisters } from "../regs/index.js";

/**
 * Names and numbers of Virtual I/O Device (VIRTIO) 1.3 that are common to all device types, and of its legacy
 * interface (0.9.5). Section numbers are those of 1.3; names the standard does not print are Linux's uapi names.
 */

// ------------------------------------------------------------------------------------------------ PCI identity, §4.1.2

export const PCI_VENDOR_ID_REDHAT_QUMRANET = 0x1af4;
/** Transitional devices: 0x1000 … 0x103F. */
export const VIRTIO_PCI_TRANSITIONAL_ID_FIRST = 0x1000;
export const VIRTIO_PCI_TRANSITIONAL_ID_LAST = 0x103f;
/** Non-transitional devices: this plus the virtio device id, up to 0x107F. */
export const VIRTIO_PCI_MODERN_ID_BASE = 0x1040;
export const VIRTIO_PCI_MODERN_ID_LAST = 0x107f;

// Virtio device ids, §5
export const VIRTIO_ID_NET = 1;
export const VIRTIO_ID_BLOCK = 2;
export const VIRTIO_ID_CONSOLE = 3;
export const VIRTIO_ID_RNG = 4;
export const VIRTIO_ID_BALLOON = 5;
export const VIRTIO_ID_SCSI = 8;
export const VIRTIO_ID_9P = 9;
export const VIRTIO_ID_INPUT = 18;

/** Transitional PCI device ids by virtio id; they follow no rule. §4.1.2.1 */
export const VIRTIO_TRANSITIONAL_IDS: { readonly [virtioId: number]: number } = {
  [VIRTIO_ID_NET]: 0x1000,
  [VIRTIO_ID_BLOCK]: 0x1001,
  [VIRTIO_ID_BALLOON]: 0x1002,
  [VIRTIO_ID_CONSOLE]: 0x1003,
  [VIRTIO_ID_SCSI]: 0x1004,
  [VIRTIO_ID_RNG]: 0x1005,
  [VIRTIO_ID_9P]: 0x1009,
};

// ------------------------------------------------------------------------------------------------ device status, §2.1

export const VIRTIO_CONFIG_S_ACKNOWLEDGE = 0x01;
export const VIRTIO_CONFIG_S_DRIVER = 0x02;
export const VIRTIO_CONFIG_S_DRIVER_OK = 0x04;
export const VIRTIO_CONFIG_S_FEATURES_OK = 0x08;
export const VIRTIO_CONFIG_S_NEEDS_RESET = 0x40;
export const VIRTIO_CONFIG_S_FAILED = 0x80;

// ------------------------------------------------------------------------------------------------ feature bits, §6
// Bit numbers. Bits 0 … 23 and 50 … 127 belong to the device type.

/** Legacy only: interrupt whenever the device has used all available buffers. §6.3 */
export const VIRTIO_F_NOTIFY_ON_EMPTY = 24;
/** Legacy only: no assumption about message framing. §6.3 */
export const VIRTIO_F_ANY_LAYOUT = 27;
export const VIRTIO_F_INDIRECT_DESC = 28;
export const VIRTIO_F_EVENT_IDX = 29;
/** Set by drivers that accept everything blindly; never offered. §6.3 */
export const VIRTIO_F_BAD_FEATURE = 30;
export const VIRTIO_F_VERSION_1 = 32;
export const VIRTIO_F_ACCESS_PLATFORM = 33;
export const VIRTIO_F_RING_PACKED = 34;
export const VIRTIO_F_IN_ORDER = 35;
export const VIRTIO_F_ORDER_PLATFORM = 36;
export const VIRTIO_F_SR_IOV = 37;
export const VIRTIO_F_NOTIFICATION_DATA = 38;
export const VIRTIO_F_NOTIF_CONFIG_DATA = 39;
export const VIRTIO_F_RING_RESET = 40;
export const VIRTIO_F_ADMIN_VQ = 41;

// ------------------------------------------------------------------------------------------------ split virtqueue, §2.7

/** bytes of a descriptor: addr le64 @0, len le32 @8, flags le16 @12, next le16 @14. §2.7.5 */
export const VIRTQ_DESC_SIZE = 16;
export const VIRTQ_DESC_ADDR = 0;
export const VIRTQ_DESC_LEN = 8;
export const VIRTQ_DESC_FLAGS = 12;
export const VIRTQ_DESC_NEXT = 14;
/** The buffer goes on in the descriptor named by `next`. */
export const VIRTQ_DESC_F_NEXT = 1;
/** The buffer is device-writable. */
export const VIRTQ_DESC_F_WRITE = 2;
/** The buffer holds a table of descriptors. */
export const VIRTQ_DESC_F_INDIRECT = 4;

// struct virtq_avail: flags le16 @0, idx le16 @2, ring[] le16 @4, used_event le16 behind the ring. §2.7.6
export const VIRTQ_AVAIL_FLAGS = 0;
export const VIRTQ_AVAIL_IDX = 2;
export const VIRTQ_AVAIL_RING = 4;
export const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;

// struct virtq_used: flags le16 @0, idx le16 @2, ring[] { id le32, len le32 } @4, avail_event le16 behind. §2.7.8
export const VIRTQ_USED_FLAGS = 0;
export const VIRTQ_USED_IDX = 2;
export const VIRTQ_USED_RING = 4;
export const VIRTQ_USED_ELEM_SIZE = 8;
export const VIRTQ_USED_F_NO_NOTIFY = 1;

/** Largest size of a split or packed virtqueue. §2.7 */
export const VIRTQ_MAX_SIZE = 32768;
// Alignment of the parts in bytes. §2.7
export const VIRTQ_DESC_ALIGN = 16;
export const VIRTQ_AVAIL_ALIGN = 2;
export const VIRTQ_USED_ALIGN = 4;

/** bytes of the descriptor table of a queue of `size` */
export const virtqDescBytes = (size: number): number => VIRTQ_DESC_SIZE * size;
/** bytes of the available ring, `used_event` included */
export const virtqAvailBytes = (size: number): number => 6 + 2 * size;
/** bytes of the used ring, `avail_event` included */
export const virtqUsedBytes = (size: number): number => 6 + VIRTQ_USED_ELEM_SIZE * size;

/**
 * Whether moving an index from `oldIdx` to `newIdx` (both free-running, modulo 65536) passes `event`. §2.7.10
 * (vring_need_event of Linux's virtio_ring.h)
 */
export const virtqNeedEvent = (event: number, newIdx: number, oldIdx: number): boolean =>
  ((newIdx - event - 1) & 0xffff) < ((newIdx - oldIdx) & 0xffff);

// ------------------------------------------------------------------------------------------------ packed virtqueue, §2.8

// struct pvirtq_desc: addr le64 @0, len le32 @8, id le16 @12, flags le16 @14; NEXT, WRITE and INDIRECT as above. §2.8.13
export const VIRTQ_PACKED_DESC_ID = 12;
export const VIRTQ_PACKED_DESC_FLAGS = 14;
/** Made available in a lap whose wrap counter this bit equals, when the other one differs. §2.8.1 */
export const VIRTQ_PACKED_DESC_F_AVAIL = 0x0080;
/** Used in a lap whose wrap counter both bits equal. §2.8.1 */
export const VIRTQ_PACKED_DESC_F_USED = 0x8000;

// struct pvirtq_event_suppress: descriptor le16 @0 (offset 15 bits, wrap counter 1 bit), flags le16 @2 (2 bits). §2.8.14
export const VIRTQ_PACKED_EVENT_SIZE = 4;
export const VIRTQ_PACKED_EVENT_OFF_WRAP = 0;
export const VIRTQ_PACKED_EVENT_FLAGS = 2;
export const VIRTQ_PACKED_EVENT_OFF_MASK = 0x7fff;
/** bit of the wrap counter beside the offset */
export const VIRTQ_PACKED_EVENT_WRAP_SHIFT = 15;
export const VIRTQ_PACKED_EVENT_FLAG_ENABLE = 0;
export const VIRTQ_PACKED_EVENT_FLAG_DISABLE = 1;
/** Only with VIRTIO_F_EVENT_IDX: at the descriptor that is named. */
export const VIRTQ_PACKED_EVENT_FLAG_DESC = 2;
/** bits of the flags that mean anything */
export const VIRTQ_PACKED_EVENT_FLAG_MASK = 3;
// Alignment of the parts in bytes; the ring's is that of a descriptor table. §2.8.10.1
export const VIRTQ_PACKED_EVENT_ALIGN = 4;

// ------------------------------------------------------------------------------------------------ PCI transport, §4.1

/** PCI capability id of virtio's structures: vendor specific. §4.1.4 */
export const VIRTIO_PCI_CAP_VNDR = 0x09;
// struct virtio_pci_cap: offsets from the start of the capability
export const VIRTIO_PCI_CAP_LEN = 2;
export const VIRTIO_PCI_CAP_CFG_TYPE = 3;
export const VIRTIO_PCI_CAP_BAR = 4;
export const VIRTIO_PCI_CAP_ID = 5;
export const VIRTIO_PCI_CAP_OFFSET = 8;
export const VIRTIO_PCI_CAP_LENGTH = 12;
/** notify_off_multiplier of struct virtio_pci_notify_cap */
export const VIRTIO_PCI_NOTIFY_CAP_MULT = 16;
/** pci_cfg_data of struct virtio_pci_cfg_cap */
export const VIRTIO_PCI_CFG_CAP_DATA = 16;
/** bytes of struct virtio_pci_cap */
export const VIRTIO_PCI_CAP_SIZE = 16;
/** bytes of struct virtio_pci_notify_cap and virtio_pci_cfg_cap */
export const VIRTIO_PCI_NOTIFY_CAP_SIZE = 20;

// cfg_type
export const VIRTIO_PCI_CAP_COMMON_CFG = 1;
export const VIRTIO_PCI_CAP_NOTIFY_CFG = 2;
export const VIRTIO_PCI_CAP_ISR_CFG = 3;
export const VIRTIO_PCI_CAP_DEVICE_CFG = 4;
export const VIRTIO_PCI_CAP_PCI_CFG = 5;
export const VIRTIO_PCI_CAP_SHARED_MEMORY_CFG = 8;
export const VIRTIO_PCI_CAP_VENDOR_CFG = 9;

/** No vector: the event sends no message. §4.1.5.1.2 */
export const VIRTIO_MSI_NO_VECTOR = 0xffff;

// ISR status, §4.1.4.5
/** Some virtqueue has used buffers. */
export const VIRTIO_PCI_ISR_QUEUE = 0x1;
/** Device configuration changed. */
export const VIRTIO_PCI_ISR_CONFIG = 0x2;

/** struct virtio_pci_common_cfg; the 64-bit fields as their two halves. §4.1.4.3 */
export const VIRTIO_PCI_COMMON = defineRegisters(
  { name: "virtio_pci_common_cfg", source: "VIRTIO 1.3 §4.1.4.3", size: 0x40 },
  {
    device_feature_select: {
      at: 0x00,
      width: 4,
      rw: 0xffff_ffff,
      hook: true,
      doc: "Which 32 bits device_feature shows",
    },
    device_feature: { at: 0x04, width: 4, live: true, doc: "Offered features" },
    driver_feature_select: {
      at: 0x08,
      width: 4,
      rw: 0xffff_ffff,
      hook: true,
      doc: "Which 32 bits driver_feature shows",
    },
    driver_feature: { at: 0x0c, width: 4, rw: 0xffff_ffff, hook: true, doc: "Features the driver accepts" },
    config_msix_vector: {
      at: 0x10,
      width: 2,
      rw: 0xffff,
      reset: 0xffff,
      hook: true,
      doc: "Vector of configuration changes",
    },
    num_queues: { at: 0x12, width: 2, live: true, doc: "Virtqueues of the device, administration queues left out" },
    device_status: {
      at: 0x14,
      width: 1,
      rw: 0xff,
      hook: true,
      fields: {
        ACKNOWLEDGE: [0, 0],
        DRIVER: [1, 1],
        DRIVER_OK: [2, 2],
        FEATURES_OK: [3, 3],
        NEEDS_RESET: [6, 6],
        FAILED: [7, 7],
      },
      doc: "Device status; writing 0 resets",
    },
    config_generation: { at: 0x15, width: 1, live: true, doc: "Changes with the device configuration" },
    queue_select: { at: 0x16, width: 2, rw: 0xffff, hook: true, doc: "Which queue the fields below belong to" },
    queue_size: { at: 0x18, width: 2, rw: 0xffff, hook: true, doc: "Descriptors; 0: no such queue" },
    queue_msix_vector: {
      at: 0x1a,
      width: 2,
      rw: 0xffff,
      reset: 0xffff,
      hook: true,
      doc: "Vector of this queue's used buffer notifications",
    },
    queue_enable: { at: 0x1c, width: 2, rw: 0xffff, hook: true, doc: "1 enables the queue" },
    queue_notify_off: { at: 0x1e, width: 2, live: true, doc: "Times notify_off_multiplier: place of the doorbell" },
    queue_desc_lo: { at: 0x20, width: 4, rw: 0xffff_ffff, hook: true, doc: "Descriptor area, bits 31–0" },
    queue_desc_hi: { at: 0x24, width: 4, rw: 0xffff_ffff, hook: true, doc: "Descriptor area, bits 63–32" },
    queue_driver_lo: { at: 0x28, width: 4, rw: 0xffff_ffff, hook: true, doc: "Driver area, bits 31–0" },
    queue_driver_hi: { at: 0x2c, width: 4, rw: 0xffff_ffff, hook: true, doc: "Driver area, bits 63–32" },
    queue_device_lo: { at: 0x30, width: 4, rw: 0xffff_ffff, hook: true, doc: "Device area, bits 31–0" },
    queue_device_hi: { at: 0x34, width: 4, rw: 0xffff_ffff, hook: true, doc: "Device area, bits 63–32" },
    queue_notif_config_data: { at: 0x38, width: 2, live: true, doc: "What to write instead of the queue's index" },
    queue_reset: { at: 0x3a, width: 2, rw: 0xffff, hook: true, doc: "1 resets this queue alone" },
    admin_queue_index: { at: 0x3c, width: 2, doc: "First administration queue" },
    admin_queue_num: { at: 0x3e, width: 2, doc: "Administration queues" },
  },
);
/** bytes of the structure in VIRTIO 1.0, up to and with queue_device */
export const VIRTIO_PCI_COMMON_CFG_SIZE_1_0 = 56;

// ------------------------------------------------------------------------------------------------ legacy interface, §4.1.4.10

// Offsets in the I/O space of BAR 0, by Linux's names.
export const VIRTIO_PCI_HOST_FEATURES = 0x00;
export const VIRTIO_PCI_GUEST_FEATURES = 0x04;
export const VIRTIO_PCI_QUEUE_PFN = 0x08;
export const VIRTIO_PCI_QUEUE_NUM = 0x0c;
export const VIRTIO_PCI_QUEUE_SEL = 0x0e;
export const VIRTIO_PCI_QUEUE_NOTIFY = 0x10;
export const VIRTIO_PCI_STATUS = 0x12;
export const VIRTIO_PCI_ISR = 0x13;
/** present while MSI-X is enabled */
export const VIRTIO_MSI_CONFIG_VECTOR = 0x14;
/** present while MSI-X is enabled */
export const VIRTIO_MSI_QUEUE_VECTOR = 0x16;
/** bytes of the header, and so the place of the device configuration, while MSI-X is disabled */
export const VIRTIO_PCI_CONFIG_OFF_NO_MSIX = 0x14;
/** the same while MSI-X is enabled */
export const VIRTIO_PCI_CONFIG_OFF_MSIX = 0x18;
/** Unit of the queue address register: 2¹² bytes. */
export const VIRTIO_PCI_QUEUE_ADDR_SHIFT = 12;
/** Alignment of the used ring within a legacy queue, bytes. §2.7.2 */
export const VIRTIO_PCI_VRING_ALIGN = 4096;

/** Offset of the used ring from the start of a legacy queue of `size`. §2.7.2 */
export const legacyUsedOffset = (size: number): number =>
  Math.ceil((virtqDescBytes(size) + virtqAvailBytes(size)) / VIRTIO_PCI_VRING_ALIGN) * VIRTIO_PCI_VRING_ALIGN;
/** bytes of a legacy queue of `size`. §2.7.2 */
export const legacyQueueBytes = (size: number): number =>
  legacyUsedOffset(size) + Math.ceil(virtqUsedBytes(size) / VIRTIO_PCI_VRING_ALIGN) * VIRTIO_PCI_VRING_ALIGN;

/** The legacy header as it stands while MSI-X is enabled; without MSI-X the device configuration begins at 0x14. */
export const VIRTIO_PCI_LEGACY = defineRegisters(
  { name: "virtio_legacy_header", source: "VIRTIO 1.3 §4.1.4.10", size: 0x18 },
  {
    device_features: { at: 0x00, width: 4, live: true, doc: "Offered features, bits 31–0" },
    driver_features: { at: 0x04, width: 4, rw: 0xffff_ffff, hook: true, doc: "Accepted features, bits 31–0" },
    queue_address: { at: 0x08, width: 4, rw: 0xffff_ffff, hook: true, doc: "Page frame number of the selected queue" },
    queue_size: { at: 0x0c, width: 2, live: true, doc: "Descriptors of the selected queue; 0: no such queue" },
    queue_select: { at: 0x0e, width: 2, rw: 0xffff, hook: true, doc: "Which queue the others belong to" },
    queue_notify: { at: 0x10, width: 2, rw: 0xffff, hook: true, doc: "Doorbell: index of a queue" },
    device_status: {
      at: 0x12,
      width: 1,
      rw: 0xff,
      hook: true,
      fields: { ACKNOWLEDGE: [0, 0], DRIVER: [1, 1], DRIVER_OK: [2, 2], FAILED: [7, 7] },
      doc: "Device status; writing 0 resets",
    },
    isr_status: {
      at: 0x13,
      width: 1,
      live: true,
      fields: { QUEUE: [0, 0], CONFIG: [1, 1] },
      doc: "Interrupt status; reading clears it",
    },
    config_msix_vector: { at: 0x14, width: 2, rw: 0xffff, reset: 0xffff, hook: true, doc: "With MSI-X only" },
    queue_msix_vector: { at: 0x16, width: 2, rw: 0xffff, reset: 0xffff, hook: true, doc: "With MSI-X only" },
  },
);
