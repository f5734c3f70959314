import { defineRegisters, type RegisterDeclaration, type RegisterMap } from "../regs/index.js";

/**
 * Names and numbers of the standard hot-plug controller of conventional PCI: PCI Standard Hot-Plug Controller and Subsystem
 * Specification 1.0. In the capability a dword of the working registers is selected and read or written; the same registers
 * are behind BAR 0.
 */

/** offsets in the capability */
export const SHPC_CAP_DWORD_SELECT = 2;
/** bit 2: a SERR# event is pending, bit 3: an interrupt is */
export const SHPC_CAP_PENDING = 3;
export const SHPC_CAP_CIP = 0x08;
export const SHPC_CAP_DWORD_DATA = 4;
export const SHPC_CAP_SIZEOF = 8;

/** Slots that a controller can have; they are the devices 1 … 31 behind the bridge. */
export const SHPC_MAX_SLOTS = 31;
/** offsets in the working registers */
export const SHPC_CMD_CODE = 0x14;
export const SHPC_CMD_TRGT = 0x15;
export const SHPC_CMD_STATUS = 0x16;
export const SHPC_INT_LOCATOR = 0x18;
export const SHPC_SERR_INT = 0x20;
/** offset of the first slot's register, four bytes each */
export const SHPC_SLOT_REG = 0x24;

// §4.7: PHYS_SLOT, upper bits
export const SHPC_PHYS_NUM_UP = 0x2000;
export const SHPC_PHYS_MRL = 0x4000;
export const SHPC_PHYS_BUTTON = 0x8000;
// §4.11: Command Status
export const SHPC_CMD_STATUS_MRL_OPEN = 0x02;
export const SHPC_CMD_STATUS_INVALID_CMD = 0x04;
export const SHPC_CMD_STATUS_INVALID_MODE = 0x08;
// §4.14: SERR-INT
export const SHPC_INT_DIS = 0x0000_0001;
export const SHPC_CMD_INT_DIS = 0x0000_0004;
export const SHPC_SERR_INT_DISABLED = 0x0000_000f;
export const SHPC_CMD_DETECTED = 0x0001_0000;
/** bit of INT_LOCATOR for completed commands; those of slots follow */
export const SHPC_INT_COMMAND = 0x1;

// Commands, §4.10: slot operations are below 40h, with state 1:0, power indicator 3:2, attention indicator 5:4.
export const SHPC_CMD_SET_SPEED = 0x40;
export const SHPC_CMD_POWER_ONLY_ALL = 0x48;
export const SHPC_CMD_ENABLE_ALL = 0x49;
export const SHPC_STATE_NO = 0;
export const SHPC_STATE_PWRONLY = 1;
export const SHPC_STATE_ENABLED = 2;
export const SHPC_STATE_DISABLED = 3;
export const SHPC_LED_NO = 0;
export const SHPC_LED_ON = 1;
export const SHPC_LED_OFF = 3;

// A slot's status, §4.15; state and indicators are where a command has them.
export const SHPC_SLOT_STATE = 0x0003;
export const SHPC_SLOT_PWR_LED = 0x000c;
export const SHPC_SLOT_ATTN_LED = 0x0030;
export const SHPC_SLOT_BUTTON = 0x0080;
export const SHPC_SLOT_MRL_OPEN = 0x0100;
/** 3: empty, 1: 25 W, 2: 15 W, 0: 7.5 W */
export const SHPC_SLOT_PRSNT = 0x0c00;
// event latch (third byte), and what of it does not interrupt (fourth byte)
export const SHPC_SLOT_EVENT_PRESENCE = 0x01;
export const SHPC_SLOT_EVENT_BUTTON = 0x04;
export const SHPC_SLOT_EVENT_MRL = 0x08;
export const SHPC_SLOT_EVENTS = 0x1f;
export const SHPC_SLOT_DISABLES = 0x7f;

/** The three registers of each slot, first at `SHPC_SLOT_REG`. */
const slotRegisters = (): { readonly [name: string]: RegisterDeclaration } =>
  Object.fromEntries(
    Array.from({ length: SHPC_MAX_SLOTS }, (_, i) => SHPC_SLOT_REG + 4 * i).flatMap((at, i) => [
      [`SLOT${i + 1}_STATUS`, { at, width: 2, doc: "State, indicators, button, latch, presence" } as const],
      [`SLOT${i + 1}_EVENT`, { at: at + 2, width: 1, w1c: SHPC_SLOT_EVENTS, doc: "Event latch" } as const],
      [
        `SLOT${i + 1}_DIS`,
        {
          at: at + 3,
          width: 1,
          rw: SHPC_SLOT_DISABLES,
          reset: SHPC_SLOT_DISABLES,
          doc: "What does not interrupt",
        } as const,
      ],
    ]),
  );

/** The working registers. */
export const SHPC_REGISTERS: RegisterMap = defineRegisters(
  { name: "SHPC", source: "PCI Standard Hot-Plug Controller and Subsystem Specification 1.0, §4", size: 0x100 },
  {
    BASE_OFFSET: { at: 0x00, width: 4, doc: "Where the working registers are in BAR 0" },
    SLOTS_33: { at: 0x04, width: 4, reset: SHPC_MAX_SLOTS, doc: "Slots available at 33 MHz, and in PCI-X modes" },
    SLOTS_66: { at: 0x08, width: 4, doc: "Slots available at 66 MHz" },
    NSLOTS: { at: 0x0c, width: 1, reset: SHPC_MAX_SLOTS, doc: "Number of slots" },
    FIRST_DEV: { at: 0x0d, width: 1, reset: 1, doc: "Device number of the first slot" },
    PHYS_SLOT: {
      at: 0x0e,
      width: 2,
      reset: 1 | SHPC_PHYS_NUM_UP | SHPC_PHYS_MRL | SHPC_PHYS_BUTTON,
      doc: "Physical number of the first slot; counted up, with latch sensors and buttons",
    },
    SEC_BUS: { at: 0x10, width: 2, fields: { MODE: [2, 0] }, doc: "Speed and mode of the bus behind; 0: 33 MHz" },
    MSI_CTL: { at: 0x12, width: 1, doc: "Which message of MSI is the controller's" },
    PROG_IFC: { at: 0x13, width: 1, reset: 1, doc: "Programming interface; 1: this one" },
    CMD_CODE: { at: SHPC_CMD_CODE, width: 1, rw: 0xff, hook: true, doc: "Command" },
    CMD_TRGT: { at: SHPC_CMD_TRGT, width: 1, rw: 0x1f, doc: "Slot that it is for, from 1 on" },
    CMD_STATUS: { at: SHPC_CMD_STATUS, width: 2, doc: "What became of the last command; 0: it is done" },
    INT_LOCATOR: {
      at: SHPC_INT_LOCATOR,
      width: 4,
      live: true,
      doc: "Bit 0: a command is done; bit n: slot n has an event",
    },
    SERR_LOCATOR: { at: 0x1c, width: 4, doc: "The same for SERR#" },
    SERR_INT: {
      at: SHPC_SERR_INT,
      width: 4,
      rw: SHPC_SERR_INT_DISABLED,
      w1c: 0x0003_0000,
      reset: SHPC_SERR_INT_DISABLED,
      doc: "What does not interrupt or signal SERR#; what has been detected",
    },
    ...slotRegisters(),
  },
);
