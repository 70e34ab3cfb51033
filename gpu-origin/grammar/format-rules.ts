/** Formats of JSON Schema as regular expressions; each text that matches is valid, not the other way round. */
const HOUR_MINUTE = '([01]\\d|2[0-3]):[0-5]\\d';
const DATE =
  '[12]\\d{3}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))';
const TIME = `${HOUR_MINUTE}:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]${HOUR_MINUTE})`;
const BYTE = '(\\d|[1-9]\\d|1\\d\\d|2[0-4]\\d|25[0-5])';
const LABEL = '[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?';
const HOST = `${LABEL}(\\.${LABEL}){0,3}`;

export const FORMATS: ReadonlyMap<string, string> = new Map([
  ['date', DATE],
  ['time', TIME],
  ['date-time', `${DATE}T${TIME}`],
  [
    'duration',
    'P(\\d{1,4}W|\\d{1,4}Y(\\d{1,2}M(\\d{1,3}D)?)?|\\d{1,2}M(\\d{1,3}D)?|\\d{1,3}D|T(\\d{1,4}H(\\d{1,2}M(\\d{1,2}S)?)?|\\d{1,4}M(\\d{1,2}S)?|\\d{1,5}S))',
  ],
  ['email', `[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@${LABEL}(\\.${LABEL}){1,3}`],
  ['hostname', HOST],
  ['ipv4', `${BYTE}\\.${BYTE}\\.${BYTE}\\.${BYTE}`],
  ['ipv6', '([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}'],
  ['uuid', '[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}'],
  [
    'uri',
    `https?://${HOST}(:[1-9]\\d{1,3})?(/[A-Za-z0-9._~-]+)*/?(\\?[A-Za-z0-9._~=&-]+)?(#[A-Za-z0-9._~-]+)?`,
  ],
]);
