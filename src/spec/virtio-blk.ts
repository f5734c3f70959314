import { defineRegisters } from "../regs/index.js";

/** Names and numbers of the block device, VIRTIO 1.3 §5.2; names the standard does not print are Linux's uapi names. */

/** requestq1 (the only one without MQ). §5.2.2 */
export const VIRTIO_BLK_REQUESTQ = 0;

/** bytes of the sectors that capacity, requests and limits count in, whatever `blk_size` is. §5.2.4 */
export const VIRTIO_BLK_SECTOR_SIZE = 512;

// ------------------------------------------------------------------------------------------------ feature bits, §5.2.3

/** Legacy only: requests may be barriers. */
export const VIRTIO_BLK_F_BARRIER = 0;
export const VIRTIO_BLK_F_SIZE_MAX = 1;
export const VIRTIO_BLK_F_SEG_MAX = 2;
export const VIRTIO_BLK_F_GEOMETRY = 4;
export const VIRTIO_BLK_F_RO = 5;
export const VIRTIO_BLK_F_BLK_SIZE = 6;
/** Legacy only: SCSI packet commands. */
export const VIRTIO_BLK_F_SCSI = 7;
export const VIRTIO_BLK_F_FLUSH = 9;
export const VIRTIO_BLK_F_TOPOLOGY = 10;
export const VIRTIO_BLK_F_CONFIG_WCE = 11;
export const VIRTIO_BLK_F_MQ = 12;
export const VIRTIO_BLK_F_DISCARD = 13;
export const VIRTIO_BLK_F_WRITE_ZEROES = 14;
export const VIRTIO_BLK_F_LIFETIME = 15;
export const VIRTIO_BLK_F_SECURE_ERASE = 16;
export const VIRTIO_BLK_F_ZONED = 17;

// ------------------------------------------------------------------------------------------------ device configuration, §5.2.4

/** struct virtio_blk_config as far as SECURE_ERASE; the fields of ZONED follow. */
export const VIRTIO_BLK_CONFIG = defineRegisters(
  { name: "virtio_blk_config", source: "VIRTIO 1.3 §5.2.4", size: 72 },
  {
    capacity_lo: { at: 0, width: 4, doc: "512-byte sectors, bits 31–0" },
    capacity_hi: { at: 4, width: 4, doc: "512-byte sectors, bits 63–32" },
    size_max: { at: 8, width: 4, doc: "with SIZE_MAX; bytes of a segment" },
    seg_max: { at: 12, width: 4, doc: "with SEG_MAX; segments of data in a request" },
    cylinders: { at: 16, width: 2, doc: "with GEOMETRY" },
    heads: { at: 18, width: 1, doc: "with GEOMETRY" },
    sectors: { at: 19, width: 1, doc: "with GEOMETRY; of a track" },
    blk_size: { at: 20, width: 4, doc: "with BLK_SIZE; bytes of a logical block" },
    physical_block_exp: { at: 24, width: 1, doc: "with TOPOLOGY; log2 of logical blocks in a physical one" },
    alignment_offset: { at: 25, width: 1, doc: "with TOPOLOGY; first aligned logical block" },
    min_io_size: { at: 26, width: 2, doc: "with TOPOLOGY; logical blocks" },
    opt_io_size: { at: 28, width: 4, doc: "with TOPOLOGY; logical blocks" },
    writeback: { at: 32, width: 1, rw: 0xff, doc: "with CONFIG_WCE; 0 writethrough, 1 writeback" },
    num_queues: { at: 34, width: 2, doc: "with MQ" },
    max_discard_sectors: { at: 36, width: 4, doc: "with DISCARD; of one segment" },
    max_discard_seg: { at: 40, width: 4, doc: "with DISCARD" },
    discard_sector_alignment: { at: 44, width: 4, doc: "with DISCARD; sectors" },
    max_write_zeroes_sectors: { at: 48, width: 4, doc: "with WRITE_ZEROES; of one segment" },
    max_write_zeroes_seg: { at: 52, width: 4, doc: "with WRITE_ZEROES" },
    write_zeroes_may_unmap: { at: 56, width: 1, doc: "with WRITE_ZEROES; 1: UNMAP may deallocate" },
    max_secure_erase_sectors: { at: 60, width: 4, doc: "with SECURE_ERASE; of one segment" },
    max_secure_erase_seg: { at: 64, width: 4, doc: "with SECURE_ERASE" },
    secure_erase_sector_alignment: { at: 68, width: 4, doc: "with SECURE_ERASE; sectors" },
  },
);

// ------------------------------------------------------------------------------------------------ requests, §5.2.6

// struct virtio_blk_req: header, data, and the status byte at the very end
export const VIRTIO_BLK_REQ_TYPE = 0;
export const VIRTIO_BLK_REQ_SECTOR = 8;
/** bytes of type, reserved and sector */
export const VIRTIO_BLK_REQ_HEADER_SIZE = 16;

// type
export const VIRTIO_BLK_T_IN = 0;
export const VIRTIO_BLK_T_OUT = 1;
export const VIRTIO_BLK_T_FLUSH = 4;
/** The flush of old legacy drivers, FLUSH and OUT. */
export const VIRTIO_BLK_T_FLUSH_OUT = 5;
export const VIRTIO_BLK_T_GET_ID = 8;
export const VIRTIO_BLK_T_GET_LIFETIME = 10;
export const VIRTIO_BLK_T_DISCARD = 11;
export const VIRTIO_BLK_T_WRITE_ZEROES = 13;
export const VIRTIO_BLK_T_SECURE_ERASE = 14;
/** A bit beside the type, legacy only: this request is a barrier. §5.2.6.3 */
export const VIRTIO_BLK_T_BARRIER = 0x8000_0000;

// status
export const VIRTIO_BLK_S_OK = 0;
export const VIRTIO_BLK_S_IOERR = 1;
export const VIRTIO_BLK_S_UNSUPP = 2;

/** bytes of GET_ID's answer: ASCII, padded with NULs, without one where all are used */
export const VIRTIO_BLK_ID_BYTES = 20;

// struct virtio_blk_discard_write_zeroes
export const VIRTIO_BLK_DWZ_SECTOR = 0;
export const VIRTIO_BLK_DWZ_NUM_SECTORS = 8;
export const VIRTIO_BLK_DWZ_FLAGS = 12;
export const VIRTIO_BLK_DWZ_SIZE = 16;
/** Of WRITE_ZEROES only: the range may be deallocated. */
export const VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP = 1;
