//! The corpus: the same texts at every run, made of a fixed seed.

use serde_json::{Value, json};

/// What is planted.
#[derive(Debug)]
pub(super) enum Plant {
    /// A text, and the pieces of it that must be gone.
    Text { text: String, pieces: Vec<String> },
    /// An attribute.
    Field { key: String, value: Value },
    /// A value that is sound, or might be taken for it.
    Sound { key: String, value: Value },
}

pub(super) struct Sample {
    pub(super) plant: Plant,
}

pub(super) struct Corpus {
    pub(super) should_be_found: bool,
    /// A pattern is for it: what is not as it should be is told where the test fails.
    pub(super) is_judged: bool,
    pub(super) kinds: Vec<(&'static str, Vec<Sample>)>,
}

/// SplitMix64: a few lines, and the same on every machine and with every release of every crate.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// `#` is a digit, `+` to `9` themselves, `?` a hexadecimal digit, `*` a letter or digit, `&` a digit from 1.
    pub(super) fn filled(&mut self, form: &str) -> String {
        let fill = |char| match char {
            '#' => char::from(b'0' + self.below(10) as u8),
            '&' => char::from(b'1' + self.below(9) as u8),
            '?' => self.one(&[
                '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
            ]),
            '*' => char::from(self.one(b"ABCDEFGHJKMNPQRSTVWXYZ0123456789")),
            other => other,
        };
        form.chars().map(fill).collect()
    }
}

/// Sentences around what is planted, without a digit. In some languages nothing is between the words.
const SENTENCES: &str = "\
    {} | {} | my number is {}, ok? | you can reach mum under {} after school | ({}) | schreib mir: {} | \
    Papa hat {} gesagt | écris-moi à {} s'il te plaît | appelle {} ! | scrivi a {} domani | \
    la mamma dice {} | escribe a {} por favor | llama al {} | fala com {} amanhã | o número é {} | \
    stuur het naar {} | napisz do {} jutro | напиши {} завтра | мой номер {} | 我的 {} 谢谢 | 連絡先は {} です | \
    제 연락처는 {} 입니다 | رقمي {} شكرا | मेरा नंबर {} है | gönder {} lütfen | γράψε στο {} αύριο | topic: {} | \
    answer=\"{}\" | name;{};end | {} {}";

const NAMES: &str = "\
            anna | luca.rossi | j.smith | mueller_max | marie-claire | sofia99 | o'brien | garcia+school | \
            ivan.petrov | yuki | minjun | wei.zhang | fatima | priya_k | zoë | josé | мария | 太郎 | k | \
            the.bell.family";

const HOSTS: &str = "\
            example.com | example.org | mail.example.co.uk | gmail.com | example.de | web.example.fr | libero.it | \
            example.com.br | 163.com | yandex.ru | naver.com | example.co.jp | school.example.edu | пример.рф | \
            例え.jp | xn--e1afmkfd.xn--p1ai";

/// Telephone numbers as people of many countries write them.
const PHONES: &str = "\
    +1 555 ### #### | +1-555-###-#### | +1 (555) ###-#### | (555) ###-#### | 555-###-#### | 555.###.#### | \
    1-555-###-#### | +44 20 7### #### | 020 7### #### | 07### ###### | +44 7### ###### | +49 171 ####### | \
    0171 ####### | 0171/####### | +49 (0)30 ######## | 030-######## | +33 6 ## ## ## ## | 06 ## ## ## ## | \
    06.##.##.##.## | 01-##-##-##-## | +39 333 ### #### | 333 &## #### | 347 ####### | 02 #### #### | \
    +39 06 ######## | +34 6## ### ### | 6## ## ## ## | 91 &## ## ## | +351 9## ### ### | \
    +55 11 9####-#### | (11) 9####-#### | 11 &###-#### | +52 55 #### #### | 55 &### #### | \
    +31 6 ######## | 06-######## | +48 6## ### ### | +7 9## ###-##-## | 8 (9##) ###-##-## | \
    8 9## ### ## ## | +380 67 ### ## ## | +91 98### ##### | 98### ##### | +86 138 #### #### | \
    138 #### #### | +81 90-####-#### | 090-####-#### | ０９０−####−#### | +82 10-####-#### | 010-####-#### | \
    +20 10 #### #### | +971 50 ### #### | +90 5## ### ## ## | 0### ### ## ## | +30 69## ### ### | \
    +61 4## ### ### | 04## ### ### | 0049 171 ####### | 001 555 ### #### | +1555####### | +39333#######";

pub(super) fn list(text: &str) -> Vec<&str> {
    text.split(" | ").collect()
}

fn text(dice: &mut Dice, planted: &str) -> Sample {
    let sentence = dice.one(&list(SENTENCES));
    let text = sentence.replace("{}", planted);
    let rest = sentence.replace("{}", "");
    // Whatever is not of the sentence must be gone: each word of the planted text, and each digit.
    let words = planted.split(|char: char| !char.is_alphanumeric());
    let pieces = words
        .filter(|word| !word.is_empty() && !rest.contains(word))
        .map(str::to_owned)
        .collect();
    Sample {
        plant: Plant::Text { text, pieces },
    }
}

fn harmless_text(text: &str) -> Sample {
    let (text, pieces) = (text.to_owned(), Vec::new());
    Sample {
        plant: Plant::Text { text, pieces },
    }
}

fn texts(dice: &mut Dice, count: usize, mut make: impl FnMut(&mut Dice) -> String) -> Vec<Sample> {
    let one = |_| {
        let planted = make(dice);
        text(dice, &planted)
    };
    (0..count).map(one).collect()
}

/// As `texts`, without sentences.
fn alone(dice: &mut Dice, count: usize, mut make: impl FnMut(&mut Dice) -> String) -> Vec<Sample> {
    (0..count).map(|_| harmless_text(&make(dice))).collect()
}

fn address(dice: &mut Dice) -> String {
    format!("{}@{}", dice.one(&list(NAMES)), dice.one(&list(HOSTS)))
}

fn in_digits_of(zero: u32, text: &str) -> String {
    let digit = |char: char| match char.to_digit(10) {
        Some(digit) => char::from_u32(zero + digit).unwrap_or(char),
        None => char,
    };
    text.chars().map(digit).collect()
}

fn fields(keys: &[&str], values: &[Value]) -> Vec<Sample> {
    let pairs = keys.iter().zip(values.iter().cycle());
    let sample = |(key, value): (&&str, &Value)| Sample {
        plant: Plant::Field {
            key: (*key).to_owned(),
            value: value.clone(),
        },
    };
    pairs.map(sample).collect()
}

pub(super) fn personal() -> Corpus {
    let dice = &mut Dice(1);
    let full_width = |text: &str| -> String {
        let wide = |char: char| match char {
            '!'..='~' => char::from_u32(u32::from(char) + 0xfee0).unwrap_or(char),
            other => other,
        };
        text.chars().map(wide).collect()
    };
    let kinds = vec![
        ("e-mail addresses", texts(dice, 600, address)),
        (
            "e-mail addresses in full-width letters, or with characters that are not seen",
            texts(dice, 200, |dice| {
                let address = address(dice);
                match dice.below(3) {
                    0 => full_width(&address),
                    1 => address.replace('.', "\u{200b}."),
                    _ => address.replace('@', "\u{2060}@\u{ad}"),
                }
            }),
        ),
        (
            "`name [at] example [dot] org` and its like, `%40`",
            texts(dice, 200, |dice| {
                let address = format!(
                    "{}@{}",
                    dice.one(&list(NAMES)[..6]),
                    dice.one(&list(HOSTS)[..6])
                );
                match dice.below(5) {
                    0 => address.replace('@', " [at] "),
                    1 => address.replace('@', "(at)").replace('.', "(dot)"),
                    2 => address.replace('@', " [AT] ").replace('.', " [dot] "),
                    3 => address.replace('@', "%40"),
                    _ => address.replace('@', " @ "),
                }
            }),
        ),
        (
            "telephone numbers as 22 countries write them",
            texts(dice, 900, |dice| {
                let form = dice.one(&list(PHONES));
                dice.filled(form)
            }),
        ),
        (
            "telephone numbers in the digits of other scripts",
            texts(dice, 200, |dice| {
                let form = dice.one(&list(PHONES));
                let zero = dice.one(&[0x660, 0x6f0, 0x966, 0x9e6, 0xff10, 0xe50]);
                let phone = dice.filled(form);
                in_digits_of(zero, &phone)
            }),
        ),
        (
            "web addresses",
            texts(dice, 400, |dice| {
                let form = dice.one(&list("\
            https://www.example.com/u/****** | http://example.org/?id=###### | www.example.net | \
            example.com/kids | instagram.com/anna_b | t.me/anna_b | wa.me/393331###### | HTTPS://EXAMPLE.ORG | \
            ftp://files.example.org/a.zip | myapp://profile/### | youtu.be/****** | example.org | \
            https://пример.рф/дом | http://10.0.0.1:8080/x | https://user:pw@example.org/x#y"));
                dice.filled(form)
            }),
        ),
        (
            "numbers of 9 digits and more, cards, US social security",
            texts(dice, 400, |dice| {
                let form = dice.one(&list("\
            &######## | &######### | 39333####### | 1555####### | 35693803564#### | DE893704004405320130## | \
            user39333####### | 219-09-#### | 4111 1111 1111 1111 | 5555-5555-5555-4444 | 3782 822463 10005 | \
            4111111111111111"));
                dice.filled(form)
            }),
        ),
        (
            "attributes named like fields of forms, in 15 languages",
            fields(
                &list(
                    "\
            email | Email | eMail | e-mail | e_mail | user_email | userEmail | useremail | parentEmail2 | \
            contact.email | emailAddress | mail | name | Name | full_name | fullName | first_name | firstName | \
            lastName | surname | nickname | child_name | childFirstName | username | user_name | parent name | \
            device_name | phone | phoneNumber | phone_number | mobilePhone | tel | address | home_address | \
            homeAddress | street | zip | zipCode | postcode | gps | GPS | lat | lon | lng | latitude | Longitude | \
            gps_lat | geoLocation | coords | dob | birthday | date_of_birth | dateOfBirth | password | vorname | \
            Nachname | telefon | handynummer | adresse | straße | PLZ | geburtsdatum | Breitengrad | längengrad | \
            prénom | nom | nom_de_famille | courriel | téléphone | code_postal | date_de_naissance | nombre | \
            apellidos | correo_electronico | teléfono | dirección | fecha_nacimiento | latitud | nome | cognome | \
            indirizzo | telefono | cellulare | data_di_nascita | sobrenome | celular | endereço | \
            data_nascimento | voornaam | achternaam | telefoon | straat | imię | nazwisko | имя | фамилия | \
            почта | телефон | адрес | 姓名 | 邮箱 | 电话 | 手机号 | 地址 | 名前 | 住所 | 電話番号 | メール | 이름 | 이메일 | 전화번호 | 주소 | \
            الاسم | هاتف | नाम | soyad",
                ),
                &[
                    json!("Anna Bell"),
                    json!("a value"),
                    json!("45.4642"),
                    json!("none of yours"),
                ],
            ),
        ),
        (
            "the same with a number",
            fields(
                &list(
                    "\
            phone | lat | lon | latitude | longitude | gps | phoneNumber | zip | postcode | PLZ | telefono | \
            телефон | 电话 | dob | long",
                ),
                &[json!(45.4642), json!(9.19)],
            ),
        ),
    ];
    Corpus {
        should_be_found: true,
        is_judged: true,
        kinds,
    }
}

pub(super) fn beyond() -> Corpus {
    let dice = &mut Dice(2);
    let kinds = vec![
        (
            "names of people and streets in a sentence",
            texts(dice, 60, |dice| {
                dice.one(&[
                    "Anna Bell",
                    "Luca Rossi",
                    "12 Elm Street",
                    "Hauptstraße 7",
                    "via Roma 3",
                    "山田太郎",
                ])
                .to_owned()
            }),
        ),
        (
            "`anna at example dot org`, handles such as `@anna_b`",
            texts(dice, 60, |dice| {
                dice.one(&[
                    "anna at example dot org",
                    "anna chez example point fr",
                    "@anna_b",
                    "insta: anna_b",
                ])
                .to_owned()
            }),
        ),
        (
            "local numbers of 7 and 8 digits",
            texts(dice, 60, |dice| {
                let form = dice.one(&["555-####", "&## ####", "&# ## ## ##", "&#######"]);
                dice.filled(form)
            }),
        ),
        (
            "digits one by one, in words, or with other signs between them",
            texts(dice, 60, |dice| {
                let form = dice.one(&[
                    "& # # # # # # # # #",
                    "three three three one two",
                    "333_###_####",
                    "333,###,####",
                    "①②③④⑤⑥⑦⑧⑨",
                ]);
                dice.filled(form)
            }),
        ),
        (
            "IP addresses, coordinates, IBAN in groups",
            texts(dice, 60, |dice| {
                let form = dice.one(&[
                    "10.1##.2#.1#",
                    "2001:db8::##",
                    "45.46##, 9.19##",
                    "DE89 3704 0044 0532 01## ##",
                    "00:1A:2B:3C:4D:##",
                ]);
                dice.filled(form)
            }),
        ),
        (
            "numbers (not texts) under a key that says nothing",
            (0..40)
                .map(|_| Sample {
                    plant: Plant::Field {
                        key: "reference".to_owned(),
                        value: json!(393_330_000_000u64 + dice.below(1_000_000)),
                    },
                })
                .collect(),
        ),
    ];
    Corpus {
        should_be_found: true,
        is_judged: false,
        kinds,
    }
}

pub(super) fn harmless() -> Corpus {
    let dice = &mut Dice(3);
    let mut form = |count, forms: &[&str]| {
        alone(dice, count, |dice| {
            let form = dice.one(forms);
            dice.filled(form)
        })
    };
    let topics = list(
        "\
        adding within twenty | telling the time | fractions (easy) | how plants drink: roots, stems & leaves | \
        q&a | 3rd grade | rock'n'roll | Addieren bis 20 | Die Uhr lesen | Größer/kleiner | \
        additionner jusqu'à 20 | l'heure qu'il est | les dinosaures ! | sommare fino a 20 | \
        perché il cielo è blu? | ¿por qué el cielo es azul? | sumar hasta 100 | somar até 20 | \
        os dinossauros | tot 20 rekenen | dodawanie do 20 | сложение до 20 | почему небо голубое? | 20以内的加法 | \
        为什么天空是蓝色的？ | たし算（二十まで） | なぜ空は青いの | 덧셈 20까지 | الجمع حتى ٢٠ | لماذا السماء زرقاء؟ | २० तक जोड़ | \
        आकाश नीला क्यों है? | 20'ye kadar toplama | πρόσθεση έως 20 | חיבור עד 20 | การบวกไม่เกิน ๒๐ | \
        cộng đến 20 | 🦕 dinosaurs 🦖 | 1️⃣ + 2️⃣",
    );
    let kinds = vec![
        (
            "topics and subjects in 19 languages",
            topics.iter().map(|topic| harmless_text(topic)).collect(),
        ),
        (
            "dates and times",
            form(
                200,
                &list(
                    "\
            2024-03-1# | 2024-03-15T1#:2#:3#Z | 2024-03-15T10:20:30.###Z | 2024-03-15T10:20:30.#########+02:00 | \
            2024-03-15 10:3# | 1#.03.2024 10:3# | 1#/03/2024 | 3/1#/2024 | 202403151#3# | 2024031510203# | \
            20240315T10203#Z | 10:30–11:4# | 1:10:3#.### | 2023-2024 | 2024-W1#-3 | since 199# | \
            Mon, 15 Mar 2024 10:20:3# GMT",
                ),
            ),
        ),
        (
            "versions and builds",
            form(
                200,
                &list(
                    "\
            4.12.# | v2.0.0-rc.# | 4.12.1+17174304## | 4.12.1-202403151020## | 1.2.3.4567 | 10.15.7 (19H2) | \
            2024.03.15 | hear-2.3.# | gpt-4o-2024-08-06 | whisper-large-v3 | react@18.2.# | iOS 17.4.1 (21E237) | \
            Android 14; SDK 34; build 20240### | 1.0.0-alpha.1+sha.5114f85",
                ),
            ),
        ),
        (
            "addresses of IP and versions like them",
            form(
                100,
                &["10.1##.2##.2##", "192.168.1##.1#", "127.0.0.1", "1.0.2.12#"],
            ),
        ),
        (
            "UUIDs, hashes and ids of devices",
            form(
                400,
                &list(
                    "\
            ????????-????-4???-a???-???????????? | ???????????????? | ???????????????????????????????? | \
            ???????????????????????????????????????? | \
            ???????????????????????????????????????????????????????????????? | 01************** | \
            tablet-???????? | ???????? | {????????-????-7???-8???-????????????} | \
            ios:????????-????-4???-9???-???????????? | \
            sha256:???????????????????????????????????????????????????????????????? | \
            1-????????-????????????????????????",
                ),
            ),
        ),
        (
            "names of lessons, levels, files, packages",
            form(
                200,
                &list(
                    "\
            lesson-2024-0# | lesson-2024-03-15-00## | unit_0#_part_1# | world-3-level-1# | grade-0#-2024-00## | \
            icon@2x.png | sprite_###@3x.webp | com.example.app | org.example.learn.v2 | node.js | intro.mp4 | \
            audio/lesson_0#.ogg | a/b/c | screen:home/3 | pp. 120-13# | B2-C1 | A4 | chapter 3: verse 1# | \
            #ff00## | q##-a# | ISBN 9783161484100 | 978-3-16-148410-0",
                ),
            ),
        ),
        (
            "sums, numbers and scores",
            form(
                200,
                &list(
                    "\
            7x8=5# | 12345 + 67890 = 802## | 1## + 2## = 4## | (3 + 4) x 5 = 3# | 1 000 000 | 1 000 000 000 | \
            1,234,567,890 | 3.14159265358979 | 0,33333333333 | 100 200 300 | 2 4 8 16 32 64 | \
            1 2 3 4 5 6 7 8 9 10 | 1-2-3-4-5 | 3:2 | 1##/200 | 99 % | 5 @ 3 | -12# | 1e10 | 10^9 | 1000000000 | \
            2021 2022 2023 2024 | ½ + ¼",
                ),
            ),
        ),
        (
            "attributes that only sound like forms",
            fields(
                &list(
                    "\
            screen_name | lesson_name | activityName | level.name | filename | file_name | app_name | event_name | \
            game_name | phone_model | phoneType | email_count | telemetry | latency | flat | long_press | \
            longest | nominal | platform | mobile_os | zip_file | gpu | address_format | emailed | renamed | \
            names_learned | cellular | nameless | contact | location | screen | theme | template",
                ),
                &[json!("x"), json!("lesson"), json!(3)],
            ),
        ),
        (
            "fields of forms that say yes or no",
            fields(
                &list(
                    "\
            email | phone | has_email | gps | name | address | phone_verified | email_consent",
                ),
                &[json!(true), json!(false)],
            ),
        ),
    ];
    Corpus {
        should_be_found: false,
        is_judged: true,
        kinds,
    }
}
