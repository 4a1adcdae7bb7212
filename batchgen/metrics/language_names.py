"""Languages by code and name: codes of ISO 639 with or without a region, and names in English, in Chinese and in the language itself."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_LANGUAGES = """
af afr                                  | Latin      | Afrikaans                        | 南非荷兰语 阿非利卡语 |
am amh                                  | Ethiopic   | Amharic                          | 阿姆哈拉语 | አማርኛ
an arg                                  | Latin      | Aragonese                        | 阿拉贡语 | aragonés
ar ara arb ary arz apc acm ars aeb      | Arabic     | Arabic                           | 阿拉伯语 | العربية
as asm                                  | Bengali    | Assamese                         | 阿萨姆语 | অসমীয়া
az aze azj                              | Latin      | Azerbaijani Azeri                | 阿塞拜疆语 | azərbaycan azərbaycanca
ba bak                                  | Cyrillic   | Bashkir                          | 巴什基尔语 | башҡорт
be bel                                  | Cyrillic   | Belarusian                       | 白俄罗斯语 | беларуская
bg bul                                  | Cyrillic   | Bulgarian                        | 保加利亚语 | български
bn ben                                  | Bengali    | Bengali Bangla                   | 孟加拉语 | বাংলা
bo bod tib                              | Tibetan    | Tibetan                          | 藏语 | བོད་སྐད་
br bre                                  | Latin      | Breton                           | 布列塔尼语 | brezhoneg
bs bos                                  | Latin      | Bosnian                          | 波斯尼亚语 | bosanski
ca cat                                  | Latin      | Catalan Valencian                | 加泰罗尼亚语 | català
ceb                                     | Latin      | Cebuano                          | 宿务语 |
ckb sdh                                 | Arabic     | Sorani                           | 中库尔德语 |
crh                                     | Latin      | Crimean_Tatar                    | 克里米亚鞑靼语 |
cs ces cze cz                           | Latin      | Czech                            | 捷克语 | čeština česky
cy cym wel                              | Latin      | Welsh                            | 威尔士语 | Cymraeg
da dan                                  | Latin      | Danish                           | 丹麦语 | dansk
de deu ger                              | Latin      | German                           | 德语 | Deutsch
dv div                                  | Thaana     | Dhivehi Maldivian                | 迪维希语 | ދިވެހި
dz dzo                                  | Tibetan    | Dzongkha                         | 宗卡语 | རྫོང་ཁ
el ell gre grc                          | Greek      | Greek Modern_Greek Ancient_Greek | 希腊语 | Ελληνικά
en eng                                  | Latin      | English                          | 英语 |
eo epo                                  | Latin      | Esperanto                        | 世界语 |
es spa                                  | Latin      | Spanish Castilian                | 西班牙语 | español castellano
et est ekk                              | Latin      | Estonian                         | 爱沙尼亚语 | eesti
eu eus baq                              | Latin      | Basque                           | 巴斯克语 | euskara
fa fas per pes prs                      | Arabic     | Persian Farsi Dari               | 波斯语 | فارسی
ff ful fuv fuf                          | Latin      | Fulah Fula                       | 富拉语 | Pulaar
fi fin                                  | Latin      | Finnish                          | 芬兰语 | suomi
fo fao                                  | Latin      | Faroese                          | 法罗语 | føroyskt
fr fra fre                              | Latin      | French                           | 法语 | français
fy fry                                  | Latin      | Frisian Western_Frisian          | 弗里西亚语 | Frysk
ga gle                                  | Latin      | Irish Irish_Gaelic               | 爱尔兰语 | Gaeilge
gd gla                                  | Latin      | Scottish_Gaelic                  | 苏格兰盖尔语 | Gàidhlig
gl glg                                  | Latin      | Galician                         | 加利西亚语 | galego
gn grn gug                              | Latin      | Guarani                          | 瓜拉尼语 | avañe’ẽ
gu guj                                  | Gujarati   | Gujarati                         | 古吉拉特语 | ગુજરાતી
ha hau                                  | Latin      | Hausa                            | 豪萨语 |
haw                                     | Latin      | Hawaiian                         | 夏威夷语 | ʻŌlelo_Hawaiʻi
he heb iw hbo                           | Hebrew     | Hebrew                           | 希伯来语 | עברית
hi hin                                  | Devanagari | Hindi                            | 印地语 | हिन्दी हिंदी
hr hrv                                  | Latin      | Croatian                         | 克罗地亚语 | hrvatski
ht hat                                  | Latin      | Haitian_Creole Haitian           | 海地克里奥尔语 | Kreyòl_Ayisyen
hu hun                                  | Latin      | Hungarian                        | 匈牙利语 | magyar
hy hye arm                              | Armenian   | Armenian                         | 亚美尼亚语 | հայերեն
id ind                                  | Latin      | Indonesian                       | 印度尼西亚语 印尼语 | Bahasa_Indonesia
ig ibo                                  | Latin      | Igbo                             | 伊博语 | Asụsụ_Igbo
is isl ice                              | Latin      | Icelandic                        | 冰岛语 | íslenska
it ita                                  | Latin      | Italian                          | 意大利语 | italiano
ja jpn jp                               | Japanese   | Japanese                         | 日语 日本语 | 日本語
jv jav jw                               | Latin      | Javanese                         | 爪哇语 | Basa_Jawa
ka kat geo                              | Georgian   | Georgian                         | 格鲁吉亚语 | ქართული
kab                                     | Latin      | Kabyle                           | 卡拜尔语 | Taqbaylit
ki kik                                  | Latin      | Kikuyu                           | 吉库尤语 | Gĩgĩkũyũ
kk kaz                                  | Cyrillic   | Kazakh                           | 哈萨克语 | қазақша қазақ_тілі
km khm                                  | Khmer      | Khmer Cambodian                  | 高棉语 柬埔寨语 | ខ្មែរ
kn kan                                  | Kannada    | Kannada                          | 卡纳达语 | ಕನ್ನಡ
ko kor kr                               | Hangul     | Korean                           | 韩语 韩国语 朝鲜语 | 한국어 조선말
ku kur kmr                              | Latin      | Kurdish Kurmanji                 | 库尔德语 | kurdî kurmancî
ky kir                                  | Cyrillic   | Kyrgyz Kirghiz                   | 吉尔吉斯语 柯尔克孜语 | кыргызча
la lat                                  | Latin      | Latin                            | 拉丁语 | Latina
lb ltz                                  | Latin      | Luxembourgish                    | 卢森堡语 | Lëtzebuergesch
lg lug                                  | Latin      | Ganda Luganda                    | 卢干达语 |
ln lin                                  | Latin      | Lingala                          | 林加拉语 |
lo lao                                  | Lao        | Lao Laotian                      | 老挝语 | ລາວ
lt lit                                  | Latin      | Lithuanian                       | 立陶宛语 | lietuvių
lv lav lvs                              | Latin      | Latvian                          | 拉脱维亚语 | latviešu
mg mlg plt                              | Latin      | Malagasy                         | 马拉加斯语 |
mi mri mao                              | Latin      | Māori                            | 毛利语 |
mk mkd mac                              | Cyrillic   | Macedonian                       | 马其顿语 | македонски
ml mal                                  | Malayalam  | Malayalam                        | 马拉雅拉姆语 | മലയാളം
mn mon khk                              | Cyrillic   | Mongolian                        | 蒙古语 蒙语 | монгол
mr mar                                  | Devanagari | Marathi                          | 马拉地语 | मराठी
ms msa may zsm                          | Latin      | Malay                            | 马来语 | Bahasa_Melayu Melayu
mt mlt                                  | Latin      | Maltese                          | 马耳他语 | Malti
my mya bur                              | Myanmar    | Burmese Myanmar                  | 缅甸语 缅语 | မြန်မာ မြန်မာဘာသာ
ne nep npi                              | Devanagari | Nepali                           | 尼泊尔语 | नेपाली
nl nld dut                              | Latin      | Dutch Flemish                    | 荷兰语 弗拉芒语 | Nederlands Vlaams
no nor nb nob nn nno                    | Latin      | Norwegian Bokmål Nynorsk Norwegian_Bokmål Norwegian_Nynorsk | 挪威语 | norsk
nso                                     | Latin      | Northern_Sotho Sepedi            | 北索托语 |
ny nya                                  | Latin      | Chichewa Nyanja                  | 齐切瓦语 |
oc oci                                  | Latin      | Occitan                          | 奥克语 |
om orm                                  | Latin      | Oromo                            | 奥罗莫语 | Oromoo
or ori ory                              | Oriya      | Odia Oriya                       | 奥里亚语 | ଓଡ଼ିଆ
pa pan                                  | Gurmukhi   | Punjabi Panjabi                  | 旁遮普语 | ਪੰਜਾਬੀ
pcm                                     | Latin      | Nigerian_Pidgin                  | 尼日利亚皮钦语 | Naijá
pl pol                                  | Latin      | Polish                           | 波兰语 | polski
ps pus pbt                              | Arabic     | Pashto                           | 普什图语 | پښتو
pt por                                  | Latin      | Portuguese                       | 葡萄牙语 葡语 | português
qu que quy quz                          | Latin      | Quechua                          | 克丘亚语 | Runasimi
ro ron rum mo                           | Latin      | Romanian Moldovan                | 罗马尼亚语 | română
ru rus                                  | Cyrillic   | Russian                          | 俄语 俄罗斯语 | русский
rw kin                                  | Latin      | Kinyarwanda                      | 卢旺达语 | Ikinyarwanda
sa san                                  | Devanagari | Sanskrit                         | 梵语 | संस्कृतम्
sd snd                                  | Arabic     | Sindhi                           | 信德语 | سنڌي
se sme                                  | Latin      | Northern_Sami                    | 北萨米语 北方萨米语 | davvisámegiella
si sin                                  | Sinhala    | Sinhala Sinhalese                | 僧伽罗语 | සිංහල
sk slk slo                              | Latin      | Slovak                           | 斯洛伐克语 | slovenčina
sl slv                                  | Latin      | Slovenian Slovene                | 斯洛文尼亚语 | slovenščina
sn sna                                  | Latin      | Shona                            | 绍纳语 |
so som                                  | Latin      | Somali                           | 索马里语 | Soomaali
sq sqi alb als                          | Latin      | Albanian                         | 阿尔巴尼亚语 | shqip
sr srp                                  | Cyrillic   | Serbian                          | 塞尔维亚语 | српски
st sot                                  | Latin      | Southern_Sotho Sotho             | 南索托语 | Sesotho
su sun                                  | Latin      | Sundanese                        | 巽他语 | Basa_Sunda
sv swe                                  | Latin      | Swedish                          | 瑞典语 | svenska
sw swa swh                              | Latin      | Swahili                          | 斯瓦希里语 | Kiswahili
ta tam                                  | Tamil      | Tamil                            | 泰米尔语 | தமிழ்
te tel                                  | Telugu     | Telugu                           | 泰卢固语 | తెలుగు
tg tgk                                  | Cyrillic   | Tajik                            | 塔吉克语 | тоҷикӣ
th tha                                  | Thai       | Thai                             | 泰语 | ไทย ภาษาไทย
ti tir                                  | Ethiopic   | Tigrinya                         | 提格利尼亚语 | ትግርኛ
tk tuk                                  | Latin      | Turkmen                          | 土库曼语 | türkmençe
tl tgl fil                              | Latin      | Tagalog Filipino                 | 他加禄语 菲律宾语 | Wikang_Tagalog
tr tur                                  | Latin      | Turkish                          | 土耳其语 | Türkçe
tt tat                                  | Cyrillic   | Tatar                            | 鞑靼语 | татар татарча
ug uig                                  | Arabic     | Uyghur Uighur                    | 维吾尔语 维语 | ئۇيغۇرچە
uk ukr ua                               | Cyrillic   | Ukrainian                        | 乌克兰语 | українська
ur urd                                  | Arabic     | Urdu                             | 乌尔都语 | اردو
uz uzb uzn                              | Latin      | Uzbek                            | 乌兹别克语 | o‘zbek oʻzbekcha
vi vie                                  | Latin      | Vietnamese                       | 越南语 | Tiếng_Việt
vo vol                                  | Latin      | Volapük                          | 沃拉普克语 |
wa wln                                  | Latin      | Walloon                          | 瓦隆语 |
xh xho                                  | Latin      | Xhosa                            | 科萨语 | isiXhosa
yi yid ydd                              | Hebrew     | Yiddish                          | 意第绪语 | ייִדיש
yo yor                                  | Latin      | Yoruba                           | 约鲁巴语 | Yorùbá
zh zho chi cmn wuu yue lzh hak nan cn   | Han        | Chinese Mandarin Cantonese       | 中文 汉语 普通话 国语 华语 粤语 广东话 白话文 吴语 官话 | 漢文
zu zul                                  | Latin      | Zulu                             | 祖鲁语 | isiZulu
"""
"""Codes, the first of which stands for all; the usual script; names in English, Chinese, and the language itself."""

_SCRIPT_TAGS = {
    "latn": "Latin", "hans": "Han", "hant": "Han", "hani": "Han", "jpan": "Japanese", "kore": "Hangul",
    "hang": "Hangul", "cyrl": "Cyrillic", "arab": "Arabic", "hebr": "Hebrew", "grek": "Greek", "deva": "Devanagari",
    "beng": "Bengali", "guru": "Gurmukhi", "gujr": "Gujarati", "taml": "Tamil", "telu": "Telugu", "knda": "Kannada",
    "mlym": "Malayalam", "sinh": "Sinhala", "thai": "Thai", "laoo": "Lao", "khmr": "Khmer", "mymr": "Myanmar",
    "geor": "Georgian", "armn": "Armenian", "ethi": "Ethiopic", "tibt": "Tibetan", "orya": "Oriya", "thaa": "Thaana",
}  # fmt: skip
_TAG = re.compile(r"(?P<code>[a-z]{2,3})(?P<rest>(?:[-_][a-z0-9]{1,8})*)(?:\.[\w-]+)?")
_KIND = re.compile(
    r"^(?:simplified|traditional|modern|standard|american|british|us|uk|canadian|australian|brazilian|european|"
    r"mexican|latin american|swiss|austrian|mandarin|简体|繁体|正体|现代|标准|美式|英式|巴西)[ -]*"
    r"|\((?:[^()]*)\)|（[^（）]*）|(?: language|语言)$"
)
"""What distinguishes kinds of one language: `Brazilian Portuguese`, `Chinese (Simplified)`, `简体中文`."""
_SIMPLIFIED = str.maketrans(
    "語漢國韓臘羅爾蘭馬亞來蘇粵簡體華廣東話維藏緬烏",
    "语汉国韩腊罗尔兰马亚来苏粤简体华广东话维藏缅乌",
)


@dataclass(frozen=True, slots=True)
class Language:
    """A language. `code` is of two letters where there is one; `script` is a script of Unicode, or `Japanese`."""

    code: str
    script: str


def find_language(name: str) -> Language | None:
    """The language of a code or a name; None for an unknown one.

    Codes may have a region and a script: `zh`, `zho`, `zh-CN`, `zh_Hans`, `sr-Latn`. Cantonese and Mandarin are both `zh`.
    """
    wanted = _folded(name)
    tag = _TAG.fullmatch(wanted)
    language = _BY_CODE.get(tag["code"]) if tag else None
    if tag and language:
        scripts = [
            _SCRIPT_TAGS[part] for part in re.split("[-_]", tag["rest"]) if part in _SCRIPT_TAGS
        ]
        return Language(language.code, scripts[0]) if scripts else language
    for form in (wanted, _plain(wanted), _KIND.sub("", wanted).strip()):
        if form in _BY_NAME:
            return _BY_NAME[form]
    return None


def fold_code(code: str) -> str:
    """The code that stands for a language in this module: `zh` for `yue`, `no` for `nb`."""
    known = _BY_CODE.get(code)
    return known.code if known else code


def _folded(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).casefold().translate(_SIMPLIFIED)
    return " ".join(plain.split())


def _plain(name: str) -> str:
    """Without accents."""
    parts = unicodedata.normalize("NFKD", name)
    return "".join(c for c in parts if not unicodedata.combining(c))


def _names(line: str) -> Iterator[str]:
    _, _, english, chinese, native = line.split("|")
    for word in (*english.split(), *native.split()):
        name = _folded(word.replace("_", " "))
        yield from (name, _plain(name))
    for word in chinese.split():
        yield from (word, word.removesuffix("语") + "文", word.removesuffix("文") + "语")


def _table() -> tuple[Mapping[str, Language], Mapping[str, Language]]:
    codes: dict[str, Language] = {}
    names: dict[str, Language] = {}
    for line in _LANGUAGES.strip().splitlines():
        first, script, *_ = line.split("|")
        language = Language(first.split()[0], script.strip())
        codes |= dict.fromkeys(first.split(), language)
        names |= dict.fromkeys(_names(line), language)
    return codes, names


_BY_CODE, _BY_NAME = _table()
